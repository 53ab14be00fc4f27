// Needle in a haystack: can the model repeat a fact from anywhere in a long context, and, for sparse
// attention, did the query that must answer select the blocks that hold it?
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"
#include "nn/language_model.h"
#include "recipes/evaluation/haystack.h"

namespace lacuna {

struct NeedleOptions {
  std::vector<int64_t> lengths = {512, 1024, 2048};    // tokens of a context, the question included
  std::vector<int64_t> depths = {0, 25, 50, 75, 100};  // per cent of the text before the needle
  int64_t trials = 5;                                  // of each length and depth
  uint64_t seed = 1;

  // A ConfigError that names the option.
  absl::Status Validate() const;
};

// Trials of one length and depth.
struct NeedleCell {
  int64_t length = 0, depth = 0;
  int64_t trials = 0, correct = 0;
  // Trials in which the group's list held every block with a digit of the needle's number, at the
  // query that predicts the first token of the answer: [layer with sparse attention][group].
  std::vector<std::vector<int64_t>> selected;
};

struct NeedleResult {
  std::vector<NeedleCell> cells;  // by length, then depth
  std::vector<int64_t> layers;    // those with sparse attention
  int64_t select_block = 0;       // tokens of a block, 0 without sparse attention
  int64_t num_selected = 0;       // blocks a query reads
};

// `select_block` and `num_selected` are the model's (0 for full attention). The answer is greedy and
// right if its text, white space before it left out, begins with the number and no further digit.
// `progress`, if given, is called with the trials done.
absl::StatusOr<NeedleResult> EvaluateNeedle(LanguageModel& model, const Tokenizer& tokenizer,
                                            const Haystack& haystack, int64_t select_block,
                                            int64_t num_selected, const NeedleOptions& options,
                                            const std::function<void(int64_t)>& progress = {});

// Tables for people.
std::string NeedleText(const NeedleResult& result, const NeedleOptions& options);
nlohmann::ordered_json NeedleJson(const NeedleResult& result, const NeedleOptions& options);

}  // namespace lacuna
