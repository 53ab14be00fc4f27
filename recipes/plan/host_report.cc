#include "recipes/plan/host_report.h"

#include <fmt/format.h>

#include <vector>

#include "core/out_of_memory.h"
#include "distributed/state_snapshot.h"
#include "recipes/plan/memory.h"
#include "recipes/plan/model_size.h"

namespace lacuna {

int64_t SnapshotMemory(const Recipe& recipe, int64_t ranks) {
  const TrainConfig& train = recipe.train;
  // On the CPU a limit leaves no room for copies (RunSaver::Prepare).
  const bool is_limited = train.device == DeviceChoice::kCpu && train.memory_limit_gib > 0;
  if (!train.SavesInBackground(0) || is_limited) return 0;
  const int64_t parameter = SizeOf(AccumulationType(train.dtype)) + 2 * SizeOf(MomentsOf(recipe));
  return (CountParameters(recipe).total() * parameter + ranks - 1) / ranks;
}

std::string HostMemoryText(const Recipe& recipe, const PlanOptions& options) {
  const int64_t bytes = SnapshotMemory(recipe, options.ranks);
  if (bytes == 0) return "";
  const int64_t ranks = options.ranks / options.hosts;
  std::string out = fmt::format("\nHost memory that saves in the background reserve{}\n",
                                recipe.train.device == DeviceChoice::kCpu ? "" : " (page-locked)");
  AppendRow("a rank", FormatMemory(bytes), "what it writes of a checkpoint", &out);
  std::string note = fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s");
  if (options.host_memory_gib > 0) {
    const auto there = static_cast<int64_t>(options.host_memory_gib * (1 << 30));
    // As the run decides it, were all of the host's memory free.
    const bool fits = CheckSnapshotsFit(std::vector<SnapshotNeed>(static_cast<size_t>(ranks),
                                                                  {"host", bytes, there}))
                          .ok();
    note += fits ? fmt::format("; fits, {} to spare", FormatMemory(there - ranks * bytes))
                 : fmt::format("; more than nine tenths of {}: training waits for each save",
                               FormatMemory(there));
  }
  AppendRow("a host", FormatMemory(ranks * bytes), note, &out);
  return out;
}

}  // namespace lacuna
