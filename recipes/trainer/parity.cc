#include "recipes/trainer/parity.h"

#include "core/status.h"
#include "core/stream.h"
#include "nn/metrics.h"
#include "nn/optimizer.h"
#include "recipes/model_builder.h"
#include "recipes/trainer/device.h"
#include "recipes/trainer/run_inputs.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/parity.h"
#endif

namespace lacuna {

#ifdef LACUNA_WITH_CUDA

namespace {

// The first `tokens` rows of a batch, its documents cut where they end.
Batch Head(const Batch& batch, int64_t tokens) {
  Batch head = batch;
  const int64_t n = std::min(tokens, batch.ids.dim(0));
  head.ids = batch.ids.Slice(0, n);
  head.targets = batch.targets.Slice(0, n);
  std::vector<int32_t> cu;
  for (const int32_t row : batch.sequences.host_cu_seqlens()) {
    if (row < n) cu.push_back(row);
  }
  cu.push_back(static_cast<int32_t>(n));
  head.sequences = PackedSequences(cu);
  return head;
}

void RunStep(const Recipe& recipe, BuiltModel& built, const Batch& batch, Device device) {
  AdamW optimizer(*built.parameters, recipe.optimizer);
  built.parameters->ZeroGrad();
  const PackedSequences sequences = batch.sequences.To(device);
  Tape tape(Tape::Mode::kRecord, ComputeStream(device));
  Metrics metrics;
  ForwardContext ctx{.tape = tape,
                     .sequences = sequences,
                     .metrics = &metrics,
                     .rows_per_sample = batch.ids.dim(0)};
  const auto result = built.model->Loss(ctx, batch.ids.To(device), batch.targets.To(device),
                                        1.0 / static_cast<double>(batch.ids.dim(0)));
  tape.BackwardFrom(result.loss);
  const GradientNorm norm =
      MeasureGradients(*built.parameters, result.loss.value(), recipe.optimizer.clip_norm);
  optimizer.Step(recipe.optimizer.learning_rate, norm.clip_factor);
  for (MoeLayer* layer : built.moe_layers) layer->UpdateBias();
}

}  // namespace

absl::StatusOr<ParityResult> CheckParity(const Recipe& recipe, int64_t tokens) {
  Recipe on_cuda = recipe;
  on_cuda.train.device = DeviceChoice::kCuda;
  LACUNA_ASSIGN_OR_RETURN(const Device device, ChooseDevice(on_cuda, *MakeSelfCommunicator()));
  LACUNA_ASSIGN_OR_RETURN(const RunInputs inputs, OpenRunInputs(recipe, /*may_write_cache=*/true));
  LACUNA_ASSIGN_OR_RETURN(const Batch batch, inputs.loader->Load({0}));
  BuiltModel built = BuildModel(recipe.model, recipe.nsa, recipe.moe, recipe.train.recompute,
                                recipe.train.dtype, static_cast<uint64_t>(recipe.run.seed),
                                /*gradients=*/true, device);
  cuda::ParityChecker checker;
  {
    const ObserveKernels observe(checker);
    RunStep(recipe, built, Head(batch, tokens), device);
  }
  return ParityResult{.table = checker.Table(), .passed = checker.passed()};
}

#else

absl::StatusOr<ParityResult> CheckParity(const Recipe&, int64_t) {
  return ConfigError("parity: this build has no CUDA backend (configure with -DLACUNA_CUDA=ON)");
}

#endif

}  // namespace lacuna
