#include "recipes/benchmark/python_script.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/status.h"

namespace lacuna {
namespace {

std::vector<std::string> LinesOf(const std::string& command, bool* failed) {
  std::string output;
  std::FILE* pipe = popen(("{ " + command + "; } 2>&1").c_str(), "r");
  *failed = pipe == nullptr;
  if (pipe == nullptr) return {};
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) output.append(buffer, n);
  *failed = pclose(pipe) != 0;
  std::vector<std::string> lines;
  std::istringstream stream(output);
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

std::string ShellQuoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

}  // namespace

absl::Status PythonError(const std::string& python, const std::string& script,
                         const std::vector<std::string>& lines) {
  return ConfigError("--pytorch {}: must be a Python with torch that runs {}; it ended with: {}",
                     python, script, lines.empty() ? "no output" : lines.back());
}

absl::StatusOr<std::vector<std::string>> RunPythonScript(const std::string& python,
                                                         const std::string& script,
                                                         const nlohmann::json& config) {
  bool failed = false;
  std::vector<std::string> lines = LinesOf(
      ShellQuoted(python) + " " + ShellQuoted(script) + " " + ShellQuoted(config.dump()), &failed);
  if (failed) return PythonError(python, script, lines);
  return lines;
}

std::vector<nlohmann::json> ObjectsWith(const char* key, const std::vector<std::string>& lines) {
  std::vector<nlohmann::json> objects;
  for (const std::string& line : lines) {
    auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (object.is_object() && object.contains(key)) objects.push_back(std::move(object));
  }
  return objects;
}

}  // namespace lacuna
