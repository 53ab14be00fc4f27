#include "recipes/benchmark/step_benchmark.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/random.h"
#include "core/status.h"
#include "nn/optimizer.h"
#include "recipes/model_builder.h"

namespace lacuna {
namespace {

Tensor RandomIds(int64_t n, int64_t vocabulary, uint64_t stream) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(PhiloxUniform(1, stream, i) * static_cast<double>(vocabulary));
  return Tensor::FromVector(ids, {n});
}

// Lines of a command's standard output and standard error, as they came; `*failed` where it does not
// end with 0.
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

// The result among what the script and its libraries print; an empty object where there is none.
nlohmann::json ResultOf(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    auto result = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (result.is_object() && result.contains("seconds")) return result;
  }
  return nlohmann::json::object();
}

std::string ShellQuoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

}  // namespace

double StepTimes::median() const {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  return sorted.empty() ? 0 : sorted[sorted.size() / 2];
}

StepTimes TimeTrainingSteps(const Recipe& recipe, int64_t tokens, int warmup, int steps) {
  BuiltModel built = BuildModel(recipe.model, recipe.nsa, recipe.moe, recipe.train.recompute,
                                recipe.train.dtype, 1);
  AdamW optimizer(*built.parameters, recipe.optimizer);
  const PackedSequences sequences = PackedSequences::Single(tokens);
  const Tensor ids = RandomIds(tokens, recipe.model.vocab_size, 1),
               targets = RandomIds(tokens, recipe.model.vocab_size, 2);
  StepTimes times{.seconds = {}, .tokens = tokens};
  for (int i = 0; i < warmup + steps; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    built.parameters->ZeroGrad();
    Tape tape;
    ForwardContext ctx{.tape = tape, .sequences = sequences, .rows_per_sample = tokens};
    const auto result = built.model->Loss(ctx, ids, targets, 1.0 / static_cast<double>(tokens));
    tape.BackwardFrom(result.loss);
    optimizer.Step(1e-3, MeasureGradients(*built.parameters, result.loss.value(), 1.0).clip_factor);
    for (MoeLayer* layer : built.moe_layers) {
      layer->UpdateBias();
      layer->ResetCounts();
    }
    if (i >= warmup)
      times.seconds.push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
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
  bool failed = false;
  const std::vector<std::string> lines = LinesOf(
      ShellQuoted(python) + " " + ShellQuoted(script) + " " + ShellQuoted(config.dump()), &failed);
  const nlohmann::json result = ResultOf(lines);
  if (failed || result.empty()) {
    return ConfigError("--pytorch {}: must be a Python with torch that runs {}; it ended with: {}",
                       python, script, lines.empty() ? "no output" : lines.back());
  }
  return PeerTimes{
      .times = {.seconds = result["seconds"].get<std::vector<double>>(), .tokens = tokens},
      .version = result["torch"],
      .parameters = result["parameters"]};
}

}  // namespace lacuna
