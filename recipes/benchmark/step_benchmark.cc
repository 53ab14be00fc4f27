#include "recipes/benchmark/step_benchmark.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "core/status.h"
#include "core/stream.h"
#include "nn/optimizer.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/benchmark/python_script.h"
#include "recipes/model_builder.h"

namespace lacuna {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

}  // namespace

double StepTimes::median() const {
  return Median(seconds);
}

double StepTimes::median_queued() const {
  return Median(queued_seconds);
}

StepTimes TimeTrainingSteps(const Recipe& recipe, int64_t tokens, int warmup, int steps,
                            Device device) {
  const Stream stream = ComputeStream(device);
  BuiltModel built = BuildModel(recipe.model, recipe.nsa, recipe.moe, recipe.train.recompute,
                                recipe.train.dtype, 1, /*gradients=*/true, device);
  AdamW optimizer(*built.parameters, recipe.optimizer);
  const PackedSequences sequences = PackedSequences::Single(tokens).To(device);
  const Tensor ids = UniformIds(tokens, recipe.model.vocab_size, 1, device),
               targets = UniformIds(tokens, recipe.model.vocab_size, 2, device);
  StepTimes times{.seconds = {}, .queued_seconds = {}, .tokens = tokens};
  for (int i = 0; i < warmup + steps; ++i) {
    Synchronize(stream);
    const auto begin = Clock::now();
    built.parameters->ZeroGrad();
    Tape tape(Tape::Mode::kRecord, stream);
    ForwardContext ctx{.tape = tape,
                       .sequences = sequences,
                       .rows_per_sample = tokens,
                       .deterministic = recipe.train.deterministic};
    const auto result = built.model->Loss(ctx, ids, targets, 1.0 / static_cast<double>(tokens));
    tape.BackwardFrom(result.loss);
    optimizer.Step(1e-3, MeasureGradients(*built.parameters, result.loss.value(), 1.0).clip_factor);
    for (MoeLayer* layer : built.moe_layers) {
      layer->UpdateBias();
      layer->ResetCounts();
    }
    const double queued = SecondsSince(begin);
    Synchronize(stream);
    if (i < warmup) continue;
    times.queued_seconds.push_back(queued);
    times.seconds.push_back(SecondsSince(begin));
  }
  return times;
}

absl::StatusOr<PeerTimes> TimePyTorchSteps(const Recipe& recipe, const std::string& python,
                                           const std::string& script, int64_t tokens, int warmup,
                                           int steps, int threads, bool compile) {
  const ModelConfig& m = recipe.model;
  const nlohmann::json config = {{"tokens", tokens},
                                 {"vocab_size", m.vocab_size},
                                 {"width", m.width},
                                 {"num_layers", m.num_layers},
                                 {"num_dense_layers", m.num_dense_layers},
                                 {"num_heads", m.num_heads},
                                 {"num_groups", m.num_groups},
                                 {"head_dim_qk", m.head_dim_qk},
                                 {"head_dim_v", m.head_dim_v},
                                 {"rotary_dims", m.rotary_dims},
                                 {"rope_theta", m.rope_theta},
                                 {"dense_width", m.dense_width},
                                 {"norm_eps", m.norm_eps},
                                 {"num_experts", recipe.moe.num_experts},
                                 {"experts_per_token", recipe.moe.experts_per_token},
                                 {"expert_width", recipe.moe.expert_width},
                                 {"num_shared", recipe.moe.num_shared},
                                 {"threads", threads},
                                 {"warmup", warmup},
                                 {"steps", steps},
                                 {"compile", compile}};
  LACUNA_ASSIGN_OR_RETURN(const std::vector<std::string> lines,
                          RunPythonScript(python, script, config));
  const std::vector<nlohmann::json> results = ObjectsWith("seconds", lines);
  if (results.empty()) return PythonError(python, script, lines);
  const nlohmann::json& result = results.front();
  return PeerTimes{.times = {.seconds = result["seconds"].get<std::vector<double>>(),
                             .queued_seconds = {},
                             .tokens = tokens},
                   .version = result["torch"],
                   .parameters = result["parameters"]};
}

}  // namespace lacuna
