#include "recipes/schema/train_config.h"

#include <fmt/format.h>

#include <algorithm>

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
  require(steps >= 1 && steps <= (int64_t{1} << 32), "steps", steps, "in 1..4294967296");
  require(threads >= 0 && threads <= 4096, "threads", threads, "in 0..4096");
  require(checkpoint_every >= 0, "checkpoint_every", checkpoint_every, "at least 0");
  require(keep_latest >= 1, "keep_latest", keep_latest, "at least 1");
  require(eval_every >= 0, "eval_every", eval_every, "at least 0");
  require(eval_samples >= 0, "eval_samples", eval_samples, "at least 0");
  require(log_every >= 1, "log_every", log_every, "at least 1");
  require(max_nonfinite_steps >= 0, "max_nonfinite_steps", max_nonfinite_steps, "at least 0");
  require(bucket_mb >= 1 && bucket_mb <= (1 << 16), "bucket_mb", bucket_mb, "in 1..65536");
}

}  // namespace lacuna
