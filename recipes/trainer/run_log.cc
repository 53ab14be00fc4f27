#include "recipes/trainer/run_log.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/status.h"

namespace lacuna {
namespace {

// JSON has no NaN; null stands for it.
nlohmann::ordered_json Number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

}  // namespace

absl::StatusOr<RunLog> RunLog::Open(const std::string& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir + "/tensorboard", error);
  if (error) return ConfigError("{}/tensorboard: cannot create: {}", dir, error.message());
  const std::string path = dir + "/metrics.jsonl";
  std::FILE* lines = std::fopen(path.c_str(), "a");
  if (lines == nullptr) return ConfigError("{}: cannot write: {}", path, std::strerror(errno));
  LACUNA_ASSIGN_OR_RETURN(EventFile events, EventFile::Create(dir + "/tensorboard"));
  return RunLog(lines, std::move(events));
}

void RunLog::Write(const nlohmann::ordered_json& line,
                   const std::vector<std::pair<std::string, double>>& scalars) {
  const std::string text = line.dump() + "\n";
  bool ok = std::fwrite(text.data(), 1, text.size(), lines_.get()) == text.size() &&
            std::fflush(lines_.get()) == 0;
  if (!scalars.empty()) ok &= events_.Write(line["step"], scalars);
  if (!ok && !warned_)
    spdlog::warn("metrics cannot be written ({}); training goes on without them",
                 std::strerror(errno));
  warned_ |= !ok;
}

void RunLog::Step(const RunState& state, const StepResult& result, double learning_rate,
                  double tokens_per_second, double mfu, const Metrics* telemetry) {
  nlohmann::ordered_json line = {{"step", state.step},
                                 {"loss", Number(result.loss)},
                                 {"gradient_norm", Number(result.gradient_norm)},
                                 {"learning_rate", learning_rate},
                                 {"target_tokens", result.target_tokens},
                                 {"tokens_per_second", Number(tokens_per_second)},
                                 {"idle_ms", 1e3 * result.idle_seconds},
                                 {"data_hash", ToHex(result.data_hash)}};
  std::vector<std::pair<std::string, double>> scalars = {
      {"train/loss", result.loss},
      {"train/gradient_norm", result.gradient_norm},
      {"train/learning_rate", learning_rate},
      {"speed/tokens_per_second", tokens_per_second}};
  if (mfu >= 0) {
    line["mfu"] = mfu;
    scalars.emplace_back("speed/mfu", mfu);
  }
  if (!result.skipped.empty()) line["skipped"] = result.skipped;
  if (telemetry != nullptr) {
    nlohmann::ordered_json& values = line["telemetry"] = nlohmann::ordered_json::object();
    for (const auto& [name, entry] : telemetry->scalars()) {
      values[name] = Number(entry.mean());
      scalars.emplace_back("telemetry/" + name, entry.mean());
    }
    for (const auto& [name, vector] : telemetry->vectors()) values[name] = vector;
    for (const StepResult::Source& source : result.sources) {
      const SourceState& all = state.sources.at(source.name);
      line["sources"][source.name] = {{"samples", all.samples}, {"tokens", all.tokens}};
      // Not every source is in every step.
      if (source.targets == 0) continue;
      line["sources"][source.name]["loss"] = Number(source.loss);
      scalars.emplace_back("sources/" + source.name + "/loss", source.loss);
    }
  }
  Write(line, scalars);
}

void RunLog::Evaluation(int64_t step, const std::vector<EvaluationResult>& results) {
  nlohmann::ordered_json line = {{"step", step}, {"evaluation", nlohmann::ordered_json::object()}};
  std::vector<std::pair<std::string, double>> scalars;
  for (const EvaluationResult& r : results) {
    line["evaluation"][r.name] = {{"loss", Number(r.loss)},
                                  {"bits_per_byte", Number(r.bits_per_byte)},
                                  {"tokens", r.tokens},
                                  {"bytes", r.bytes}};
    scalars.emplace_back("evaluation/" + r.name + "/loss", r.loss);
    scalars.emplace_back("evaluation/" + r.name + "/bits_per_byte", r.bits_per_byte);
  }
  Write(line, scalars);
}

void RunLog::Event(int64_t step, const std::string& event, const std::string& message,
                   const std::vector<std::pair<std::string, double>>& numbers) {
  nlohmann::ordered_json line = {{"step", step}, {"event", event}, {"message", message}};
  for (const auto& [name, number] : numbers) line[name] = Number(number);
  Write(line, {});
}

}  // namespace lacuna
