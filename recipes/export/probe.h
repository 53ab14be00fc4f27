// What an export is compared on: tokens, and what the trained model makes of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "data/tokenizer/tokenizer.h"
#include "recipes/export/decisions.h"
#include "recipes/model_builder.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

inline constexpr int64_t kGreedyTokens = 64;

struct Probe {
  std::string origin;        // for people: "validation set held_out", "random ids"
  std::vector<int32_t> ids;  // one sequence
  // Three of different lengths, parts of it, to be continued.
  std::vector<std::vector<int32_t>> prompts;
};

// So many that queries leave blocks out (sparse attention), at least 256, at most the context.
int64_t DefaultProbeTokens(const Recipe& recipe, int64_t max_positions);

// The first `tokens` held-out tokens of the first validation set that can be read and has as many,
// documents one after the other; else ids drawn from a fixed seed. The prompts leave room for their
// continuation in max_positions, where there is any.
Probe ChooseProbe(const Recipe& recipe, const Tokenizer& tokenizer, int64_t tokens,
                  int64_t max_positions);

// One sequence through the layers that train, without gradients.
struct ModelTrace {
  Tensor logits;  // [T, V]
  std::vector<LayerDecisions> layers;
};
ModelTrace TraceModel(BuiltModel& built, const Recipe& recipe, const std::vector<int32_t>& ids);

// kGreedyTokens most likely tokens, one after the other, with the decode caches.
std::vector<int32_t> ContinueGreedily(BuiltModel& built, const std::vector<int32_t>& prompt);

}  // namespace lacuna
