// One line of a JSON lines file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lacuna {

// The line's value, of any type. A DataError "<where>: is no JSON: column ..." where there is none.
absl::StatusOr<nlohmann::json> ParseJsonLine(std::string_view line, const std::string& where);

}  // namespace lacuna
