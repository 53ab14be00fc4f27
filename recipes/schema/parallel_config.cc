#include "recipes/schema/parallel_config.h"

#include <fmt/format.h>

#include <cmath>

namespace lacuna {

void ParallelConfig::Validate(const std::string& section,
                              std::vector<std::string>* violations) const {
  if (expert < 1)
    violations->push_back(fmt::format("{}.expert = {}: must be at least 1", section, expert));
  if (zero != 0 && zero != 2 && zero != 3)
    violations->push_back(fmt::format("{}.zero = {}: must be 0, 2 or 3", section, zero));
  if (!std::isfinite(timeout_seconds) || timeout_seconds <= 0 || timeout_seconds > 1e6)
    violations->push_back(fmt::format("{}.timeout_seconds = {}: must be above 0 and at most 1e6",
                                      section, timeout_seconds));
}

}  // namespace lacuna
