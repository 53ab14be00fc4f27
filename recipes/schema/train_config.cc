#include "recipes/schema/train_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace lacuna {

void RunConfig::Validate(const std::string& section, std::vector<std::string>* violations) const {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  const auto require = [&](bool holds, const char* key, const auto& value, const char* rule) {
    if (!holds)
      violations->push_back(fmt::format("{}.{} = {}: must be {}", section, key, value, rule));
  };
  // The name becomes part of file names.
  require(!name.empty() && name[0] != '.' && name.size() <= 100 &&
              std::all_of(name.begin(), name.end(), is_plain),
          "name", fmt::format("\"{}\"", name),
          "given, 1 to 100 of letters, digits, '.', '_' and '-', not starting with '.'");
  require(!dir.empty(), "dir", "\"\"", "given: the folder the run writes to");
  require(
      !stage.empty() && stage.size() <= 100 && std::all_of(stage.begin(), stage.end(), is_plain),
      "stage", fmt::format("\"{}\"", stage),
      "given, 1 to 100 of letters, digits, '.', '_' and '-'");
  require(seed >= 0, "seed", seed, "at least 0");
}

void TrainConfig::Validate(const std::string& section, std::vector<std::string>* violations) const {
  const auto require = [&](bool holds, const char* key, const auto& value, const char* rule) {
    if (!holds)
      violations->push_back(fmt::format("{}.{} = {}: must be {}", section, key, value, rule));
  };
  // Rows of a micro-batch are numbered in 32 bits.
  require(sequence_length >= 1 && sequence_length <= (1 << 24), "sequence_length", sequence_length,
          "in 1..16777216");
  require(micro_batch >= 1 && micro_batch <= (1 << 20), "micro_batch", micro_batch,
          "in 1..1048576");
  require(global_batch >= 1 && global_batch <= (1 << 24), "global_batch", global_batch,
          "in 1..16777216");
  int64_t warmup = 0;
  for (size_t i = 0; i < batch_warmup.size(); ++i) {
    const BatchPhase& phase = batch_warmup[i];
    const std::string key = fmt::format("batch_warmup[{}]", i);
    require(phase.steps >= 1 && phase.steps <= (int64_t{1} << 32), (key + ".steps").c_str(),
            phase.steps, "in 1..4294967296");
    require(phase.global_batch >= 1 && phase.global_batch <= global_batch,
            (key + ".global_batch").c_str(), phase.global_batch, "in 1..train.global_batch");
    warmup += std::max<int64_t>(phase.steps, 0);
  }
  require(warmup <= std::max<int64_t>(steps, 0), "batch_warmup", fmt::format("{} steps", warmup),
          "at most train.steps in all");
  require(steps >= 1 && steps <= (int64_t{1} << 32), "steps", steps, "in 1..4294967296");
  require(threads >= 0 && threads <= 4096, "threads", threads, "in 0..4096");
  require(!recompute.keeps_attention() || recompute.recomputes_attention(), "recompute_keeps",
          "attention", "none where train.recompute runs no attention again (block, [attention])");
  require(checkpoint_every >= 0, "checkpoint_every", checkpoint_every, "at least 0");
  require(keep_latest >= 1, "keep_latest", keep_latest, "at least 1");
  require(eval_every >= 0, "eval_every", eval_every, "at least 0");
  require(eval_samples >= 0, "eval_samples", eval_samples, "at least 0");
  require(log_every >= 1, "log_every", log_every, "at least 1");
  require(max_nonfinite_steps >= 0, "max_nonfinite_steps", max_nonfinite_steps, "at least 0");
  require(std::isfinite(memory_limit_gib) && memory_limit_gib >= 0 && memory_limit_gib <= 1e6,
          "memory_limit_gib", memory_limit_gib, "in 0..1e6");
  require(bucket_mb >= 1 && bucket_mb <= (1 << 16), "bucket_mb", bucket_mb, "in 1..65536");
}

int64_t TrainConfig::GlobalBatchAt(int64_t step) const {
  for (const BatchPhase& phase : batch_warmup) {
    if (step < phase.steps) return phase.global_batch;
    step -= phase.steps;
  }
  return global_batch;
}

int64_t TrainConfig::StepOfSample(int64_t sample) const {
  int64_t step = 0;
  for (const BatchPhase& phase : batch_warmup) {
    if (sample < phase.steps * phase.global_batch) return step + sample / phase.global_batch;
    sample -= phase.steps * phase.global_batch;
    step += phase.steps;
  }
  return step + sample / global_batch;
}

int64_t TrainConfig::SamplesIn(int64_t steps_done) const {
  int64_t samples = 0;
  for (const BatchPhase& phase : batch_warmup) {
    const int64_t within = std::min(steps_done, phase.steps);
    samples += within * phase.global_batch;
    steps_done -= within;
  }
  return samples + steps_done * global_batch;
}

bool TrainConfig::SavesInBackground(int64_t steps_done) const {
  if (!async_checkpoint || checkpoint_every == 0) return false;
  return (steps_done / checkpoint_every + 1) * checkpoint_every < steps;
}

}  // namespace lacuna
