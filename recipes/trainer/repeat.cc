#include "recipes/trainer/repeat.h"

#include <fmt/format.h>

#include <chrono>
#include <numeric>

#include "core/repeat_checker.h"
#include "core/status.h"
#include "core/stream.h"
#include "nn/optimizer.h"
#include "recipes/model_builder.h"
#include "recipes/trainer/device.h"
#include "recipes/trainer/init_from.h"
#include "recipes/trainer/run_inputs.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/random_delay.h"
#endif

namespace lacuna {
namespace {

void DelayWarps([[maybe_unused]] uint32_t seed) {
#ifdef LACUNA_WITH_CUDA
  cuda::hopper::SetRandomDelays(seed);
#endif
}

void RunPass(const Recipe& recipe, BuiltModel& built, const Batch& batch, bool forward_only) {
  const Device device = built.parameters->device();
  built.parameters->ZeroGrad();
  const PackedSequences sequences = batch.sequences.To(device);
  Tape tape(forward_only ? Tape::Mode::kInference : Tape::Mode::kRecord, ComputeStream(device));
  ForwardContext ctx{.tape = tape,
                     .sequences = sequences,
                     .rows_per_sample = recipe.train.sequence_length,
                     .deterministic = recipe.train.deterministic};
  const auto result = built.model->Loss(ctx, batch.ids.To(device), batch.targets.To(device),
                                        1.0 / static_cast<double>(batch.ids.dim(0)));
  if (forward_only) return;
  tape.BackwardFrom(result.loss);
  built.parameters->ZeroUnsetGrad();
  MeasureGradients(*built.parameters, result.loss.value(), recipe.optimizer.clip_norm);
  for (MoeLayer* layer : built.moe_layers) layer->ResetCounts();
}

std::string Summary(const RepeatChecker& checker, double seconds) {
  std::string text = fmt::format("{} passes of {} outputs in {:.1f} s: ", checker.passes(),
                                 checker.num_outputs(), seconds);
  if (checker.differences().empty()) return text + "the same bits in all of them\n";
  text += fmt::format("{} had other bits than the first\n", checker.differences().size());
  for (const RepeatChecker::Difference& d : checker.differences()) {
    text += fmt::format("  pass {}: first {}'s {} {}, call {}{}; {} outputs in all\n", d.pass,
                        d.kernel, d.output, ToString(d.shape), d.call,
                        d.module.empty() ? "" : " (" + d.module + ")", d.outputs);
  }
  return text;
}

}  // namespace

absl::StatusOr<RepeatResult> RepeatStep(const Recipe& recipe, const RepeatOptions& options) {
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  LACUNA_ASSIGN_OR_RETURN(const Device device, ChooseDevice(recipe, *self));
  LACUNA_ASSIGN_OR_RETURN(const RunInputs inputs, OpenRunInputs(recipe, /*may_write_cache=*/true));
  std::vector<int64_t> samples(static_cast<size_t>(recipe.train.micro_batch));
  std::iota(samples.begin(), samples.end(), options.first_sample);
  LACUNA_ASSIGN_OR_RETURN(const Batch batch, inputs.loader->Load(samples));
  BuiltModel built = BuildModel(recipe.model, recipe.nsa, recipe.moe, recipe.train.recompute,
                                recipe.train.dtype, static_cast<uint64_t>(recipe.run.seed),
                                /*gradients=*/true, device);
  if (recipe.init_from.given()) {
    AdamW optimizer(*built.parameters, recipe.optimizer);
    LACUNA_RETURN_IF_ERROR(
        InitialiseFrom(recipe, inputs.tokenizer_hash, built, optimizer, *self).status());
  }
  RepeatChecker checker(ComputeStream(device));
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (int64_t pass = 0; pass < options.passes; ++pass) {
    if (options.seconds > 0 && pass >= 2 && elapsed() > options.seconds) break;
    const ObserveKernels observe(checker);
    // The first pass, which the others are compared with, is an undisturbed one.
    DelayWarps(options.delays == 0 || pass == 0 ? 0 : options.delays + static_cast<uint32_t>(pass));
    RunPass(recipe, built, batch, options.forward_only);
    checker.EndPass();
  }
  DelayWarps(0);
  return RepeatResult{.text = Describe(device) + "\n" + Summary(checker, elapsed()),
                      .passed = checker.differences().empty()};
}

}  // namespace lacuna
