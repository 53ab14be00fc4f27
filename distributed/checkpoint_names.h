// Names in a directory of checkpoints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/numbers.h"

namespace lacuna {

inline constexpr char kManifestName[] = "MANIFEST.json";
inline constexpr char kLatestName[] = "LATEST";
inline constexpr std::string_view kAsideSuffix = ".replaced";  // see ReplaceDirectory

// "step_1200" -> 1200; anything else is no checkpoint.
inline std::optional<int64_t> StepOfName(const std::string& name) {
  int64_t step = 0;
  if (!name.starts_with("step_") || !absl::SimpleAtoi(name.substr(5), &step) ||
      name != "step_" + std::to_string(step))
    return std::nullopt;
  return step;
}

// What a killed save or removal leaves: "step_1200.tmp.<id>", "LATEST.tmp.<pid>".
inline bool IsTemporaryName(const std::string& name) {
  const size_t dot = name.find(".tmp.");
  if (dot == std::string::npos) return false;
  const std::string stem = name.substr(0, dot);
  return stem == kLatestName || StepOfName(stem).has_value();
}

}  // namespace lacuna
