#include "recipes/trainer/memory_check.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/out_of_memory.h"
#include "core/status.h"
#include "recipes/plan/device_table.h"
#include "recipes/plan/memory.h"
#include "recipes/trainer/memory_advice.h"

namespace lacuna {

absl::Status CheckMemory(const Recipe& recipe, int64_t ranks, const std::string& device,
                         int64_t bytes, double overload) {
  const RankMemory m = EstimateMemory(recipe, ranks, overload);
  const int64_t libraries = LibraryMemory(ranks);
  if (m.total() + libraries <= bytes) return absl::OkStatus();
  std::vector<std::pair<const char*, int64_t>> parts = {{"weights", m.weights},
                                                        {"gradients", m.gradients},
                                                        {"optimizer", m.master + m.moments},
                                                        {"activations", m.activations},
                                                        {"loss or last layer", m.transient},
                                                        {"all-to-all", m.all_to_all},
                                                        {"keys and values", m.context},
                                                        {"buckets", m.sharding},
                                                        {"CUDA's libraries", libraries}};
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string list;
  for (const auto& [name, size] : parts) {
    if (size > 0)
      list += fmt::format("{}{} {}", list.empty() ? "" : " + ", name, FormatMemory(size));
  }
  OutOfMemory request;
  request.device.type = DeviceType::kCuda;
  std::string advice = MemoryAdvice(recipe, ranks, request);
  advice.pop_back();
  return ConfigError("{}: needs {} a rank ({} rank{}), {} has {}: {}\n{}", recipe.run.name,
                     FormatMemory(m.total() + libraries), ranks, ranks == 1 ? "" : "s", device,
                     FormatMemory(bytes), list, advice);
}

}  // namespace lacuna
