#include "recipes/plan/rank_report.h"

#include <fmt/format.h>

#include "core/out_of_memory.h"
#include "recipes/plan/memory.h"
#include "recipes/plan/model_size.h"
#include "recipes/plan/step_time.h"
#include "recipes/schema/recipe_keys.h"
#include "recipes/trainer/progress.h"

namespace lacuna {
namespace {

std::string Title(const Recipe& recipe, int64_t ranks) {
  const ParallelConfig& parallel = recipe.parallel;
  std::string held = "each holds the whole model";
  if (parallel.expert > 1 || parallel.zero > 0)
    held = fmt::format("parallel.expert = {}, parallel.zero = {}", parallel.expert, parallel.zero);
  if (parallel.shard > 0) held += fmt::format(", parallel.shard = {}", parallel.shard);
  if (parallel.context > 1) held += fmt::format(", parallel.context = {}", parallel.context);
  return fmt::format("\nMemory of a rank ({} rank{}; {})\n", ranks, ranks == 1 ? "" : "s", held);
}

void AppendDevice(const PlanOptions& options, int64_t tensors, std::string* out) {
  const int64_t libraries = LibraryMemory(options.ranks),
                there = static_cast<int64_t>(options.device->memory_gib * (1 << 30)),
                left = there - tensors - libraries;
  AppendRow("CUDA, cuBLAS, cuDNN", FormatMemory(LibraryMemory(1)), "allowance", out);
  if (options.ranks > 1)
    AppendRow("NCCL", FormatMemory(libraries - LibraryMemory(1)), "allowance", out);
  AppendRow(options.device->name, FormatMemory(there),
            left >= 0 ? fmt::format("fits, {} to spare", FormatMemory(left))
                      : fmt::format("does not fit, {} too much", FormatMemory(-left)),
            out);
}

std::string Gigabytes(double bytes) {
  return fmt::format("{:.2f} GB", bytes / 1e9);
}

void AppendTraffic(const Recipe& recipe, int64_t ranks, std::string* out) {
  const StepTraffic traffic = TrafficOfStep(recipe, ranks);
  *out += "\nSent by a rank in a step\n";
  if (traffic.dispatch > 0) {
    AppendRow("all-to-all, dispatch", Gigabytes(traffic.dispatch),
              fmt::format("a token to {:.2f} of {} ranks, {:.2f} of them remote",
                          ExpectedDestinations(recipe), recipe.parallel.expert,
                          ExpectedRemoteDestinations(recipe)),
              out);
    AppendRow("all-to-all, combine", Gigabytes(traffic.combine), "", out);
  }
  if (traffic.keys > 0)
    AppendRow("keys and values", Gigabytes(traffic.keys),
              fmt::format("gathered by {} ranks, gradients sent home", recipe.parallel.context),
              out);
  AppendRow(recipe.parallel.zero > 0 ? "reduce-scatter of gradients" : "all-reduce of gradients",
            Gigabytes(traffic.gradient_sum),
            recipe.parallel.zero > 0 ? "every micro-batch" : "once a step", out);
  if (traffic.copy_sum > 0)
    AppendRow("all-reduce of shares", Gigabytes(traffic.copy_sum),
              fmt::format("once a step, over {} groups of {} ranks", ranks / recipe.parallel.shard,
                          recipe.parallel.shard),
              out);
  if (traffic.expert_gradient_sum > 0)
    AppendRow(recipe.parallel.zero > 0 ? "reduce-scatter of experts'" : "all-reduce of experts'",
              Gigabytes(traffic.expert_gradient_sum),
              recipe.parallel.zero > 0 ? "every micro-batch" : "once a step", out);
  if (traffic.weight_gather > 0) {
    AppendRow("all-gather of weights", Gigabytes(traffic.weight_gather),
              recipe.parallel.zero == 3 ? "forward and backward" : "once a step", out);
  }
}

void AppendTime(const Recipe& recipe, const PlanOptions& options, std::string* out) {
  const PlannedDevice& device = *options.device;
  const StepTime time = EstimateStep(recipe, options.ranks, options.overload, device);
  const auto seconds = [](double s) { return fmt::format("{:.3f} s", s); };
  const double tokens = static_cast<double>(recipe.train.global_batch) *
                        static_cast<double>(recipe.train.sequence_length) /
                        static_cast<double>(options.ranks) / time.total();
  *out += fmt::format("\nTime of a step on {} (estimate; {})\n", device.name, device.source);
  AppendRow("forward and backward", seconds(time.compute),
            fmt::format("at {:.0f} % of {:.0f} TFLOP/s, recomputation included", 100 * kMatMulShare,
                        device.matmul / 1e12),
            out);
  AppendRow("optimizer", seconds(time.optimizer), fmt::format("at {:.2f} TB/s", device.copy / 1e12),
            out);
  if (options.ranks > 1) {
    const double all = time.all_to_all + time.keys + time.collectives;
    if (time.all_to_all > 0)
      AppendRow("all-to-all", seconds(time.all_to_all),
                fmt::format("at {:.0f} GB/s", device.all_to_all / 1e9), out);
    if (time.keys > 0)
      AppendRow("keys and values", seconds(time.keys),
                fmt::format("at {:.0f} GB/s", device.all_to_all / 1e9), out);
    AppendRow("collectives", seconds(time.collectives),
              fmt::format("at {:.0f} GB/s", device.collective / 1e9), out);
    AppendRow("of these, beside compute", seconds(time.hidden),
              fmt::format("{:.0f} % of communication", 100 * time.hidden / all), out);
  }
  AppendRow("step", seconds(time.total()), "", out);
  AppendRow("tokens/s a rank", FormatCount(static_cast<int64_t>(tokens)),
            fmt::format("{:.0f} TFLOP/s, recomputation not counted",
                        tokens * FlopsPerToken(recipe).total() / 1e12),
            out);
}

}  // namespace

void AppendRow(const std::string& label, const std::string& value, const std::string& note,
               std::string* out) {
  std::string row = fmt::format("  {:<34}{:>18}", label, value);
  if (!note.empty()) row += "   " + note;
  *out += row + "\n";
}

std::string MemoryText(const Recipe& recipe, const PlanOptions& options) {
  const RankMemory m = EstimateMemory(recipe, options.ranks, options.overload);
  const DType dtype = recipe.train.dtype;
  std::string out = Title(recipe, options.ranks);
  AppendRow("weights", FormatMemory(m.weights), NameOf(dtype), &out);
  AppendRow("gradients", FormatMemory(m.gradients), NameOf(AccumulationType(dtype)), &out);
  if (m.master > 0)
    AppendRow("master weights", FormatMemory(m.master), NameOf(AccumulationType(dtype)), &out);
  AppendRow("optimizer moments", FormatMemory(m.moments),
            "2 x " + std::string(NameOf(MomentsOf(recipe))), &out);
  AppendRow("activations", FormatMemory(m.activations),
            fmt::format("estimate; {} x {} tokens, recompute: {}", recipe.train.micro_batch,
                        FormatCount(recipe.train.sequence_length / recipe.parallel.context),
                        Describe(recipe.train.recompute)),
            &out);
  AppendRow("loss, or backward of the last layer", FormatMemory(m.transient),
            "estimate; beside what is kept, where most is held", &out);
  if (m.all_to_all > 0) {
    AppendRow("all-to-all buffers", FormatMemory(m.all_to_all),
              fmt::format("estimate; the fullest rank gets {} x the mean", options.overload), &out);
  }
  if (m.context > 0)
    AppendRow("keys and values on their way", FormatMemory(m.context), "estimate", &out);
  if (m.sharding > 0)
    AppendRow("buckets of gradients and weights", FormatMemory(m.sharding), "estimate", &out);
  AppendRow("total", FormatMemory(m.total()), "", &out);
  if (options.device != nullptr) AppendDevice(options, m.total(), &out);
  return out;
}

std::string StepText(const Recipe& recipe, const PlanOptions& options) {
  std::string out;
  if (options.ranks > 1) AppendTraffic(recipe, options.ranks, &out);
  if (options.device != nullptr) AppendTime(recipe, options, &out);
  return out;
}

}  // namespace lacuna
