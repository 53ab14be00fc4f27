#include "recipes/schema/parallel_config.h"

#include <fmt/format.h>

#include <cmath>

namespace lacuna {
namespace {

constexpr int64_t kMaxContext = 1 << 16;  // beyond any machine, so that no product overflows

}  // namespace

void ParallelConfig::Validate(const std::string& section,
                              std::vector<std::string>* violations) const {
  if (expert < 1)
    violations->push_back(fmt::format("{}.expert = {}: must be at least 1", section, expert));
  if (expert_chunks < 0 || expert_chunks > kMaxChunks)
    violations->push_back(
        fmt::format("{}.expert_chunks = {}: must be 0 to {}", section, expert_chunks, kMaxChunks));
  if (context < 1 || context > kMaxContext)
    violations->push_back(
        fmt::format("{}.context = {}: must be 1 to {}", section, context, kMaxContext));
  if (zero != 0 && zero != 2 && zero != 3)
    violations->push_back(fmt::format("{}.zero = {}: must be 0, 2 or 3", section, zero));
  if (shard != 0 && (shard < 2 || zero == 0))
    violations->push_back(fmt::format(
        "{}.shard = {}: must be 0, or at least 2 ranks that have shares ({}.zero 2 or 3)", section,
        shard, section));
  if (!std::isfinite(timeout_seconds) || timeout_seconds <= 0 || timeout_seconds > 1e6)
    violations->push_back(fmt::format("{}.timeout_seconds = {}: must be above 0 and at most 1e6",
                                      section, timeout_seconds));
}

}  // namespace lacuna
