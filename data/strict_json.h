// JSON documents of other programs, read without second guesses: no key twice in one object, no
// nesting without end.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lacuna {

// The document, nested at most `max_depth` levels deep. `name` stands for the file. A DataError
// names the place and what is wrong: text that is no JSON or no UTF-8, a key that an object has
// twice (compared after its escapes are resolved).
absl::StatusOr<nlohmann::json> ParseStrictJson(std::string_view text, const std::string& name,
                                               int max_depth);
// The same of a file of at most max_bytes.
absl::StatusOr<nlohmann::json> ReadStrictJson(const std::string& path, int64_t max_bytes,
                                              int max_depth);

// A string or value as it may stand in a message: quoted and escaped on one line, cut to 80 bytes.
std::string Shown(const nlohmann::json& value);

}  // namespace lacuna
