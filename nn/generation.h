// Batched generation with each layer's decode cache.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "nn/language_model.h"
#include "nn/sampling.h"

namespace lacuna {

struct GenerationOptions {
  int64_t max_tokens = 128;       // new tokens a sequence
  std::vector<int32_t> stop_ids;  // a sequence ends with one of these (which is kept)
  SamplingOptions sampling;
  int64_t vocabulary_limit = 0;  // ids from here on are never chosen; 0: the model's vocabulary
  // Sequences in work at a time, 0: all. Where one ends the next prompt takes its place, so that
  // the batch stays full and memory is bounded.
  int64_t batch = 0;
};

// Continues every prompt (at least one token each). Sequences do not influence each other's
// choices: the random numbers depend on (seed, sequence, position) alone. (Matrix products may round
// a row differently in another batch, which shows where two tokens are all but equally likely.)
// `on_token`, if given, sees every token as it comes; the tokens of a sequence in order.
// The model computes where its parameters are; the host waits once for each token of the batch.
std::vector<std::vector<int32_t>> Generate(
    LanguageModel& model, const std::vector<std::vector<int32_t>>& prompts,
    const GenerationOptions& options,
    const std::function<void(int64_t sequence, int32_t token)>& on_token = {});

}  // namespace lacuna
