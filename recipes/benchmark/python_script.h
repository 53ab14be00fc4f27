// Runs a script of tools/ in an interpreter that the user names: the peers of our benchmarks.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace lacuna {

// Lines of standard output and standard error of `python script config`, as they came. A ConfigError
// naming --pytorch where it does not end with 0.
absl::StatusOr<std::vector<std::string>> RunPythonScript(const std::string& python,
                                                         const std::string& script,
                                                         const nlohmann::json& config);

// The JSON objects among the lines that have the key: the script's libraries print, too.
std::vector<nlohmann::json> ObjectsWith(const char* key, const std::vector<std::string>& lines);

// That the interpreter cannot run the script, or that what it printed is no answer.
absl::Status PythonError(const std::string& python, const std::string& script,
                         const std::vector<std::string>& lines);

}  // namespace lacuna
