// Held-out loss by position, at any length, with all or a part of the context.
//
// The position of a token is the number of tokens of its own document before it, as far as the
// document is in the sample; the first token of a document (position 0) is predicted by nothing and
// never scored.
//
// Samples are made in one of two ways:
//   packed        as in training and in its evaluation: documents one after the other, cut every
//                 `length` tokens. Positions restart where a document was cut. The total is the
//                 loss that training reports.
//   by document   where `context` or `targets_from` is given: every document is cut into pieces of
//                 `length` tokens, each a document of its own, and the tokens of a piece at
//                 positions targets_from and later are scored. With `context` C they are scored in
//                 runs of C / 2, each run with the C / 2 tokens before it as all of its document:
//                 every target sees C / 2 to C - 1 tokens. Which tokens are scored depends on
//                 length and targets_from alone, so losses with and without `context` compare token
//                 by token.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/validation_set.h"
#include "nn/language_model.h"

namespace lacuna {

struct LossOptions {
  int64_t length = 0;   // tokens of a sample, > 0
  int64_t samples = 0;  // of each set (pieces of documents with something to score); 0: all
  int64_t context = 0;  // even; 0: all there is
  // >= context / 2, which it is when left out
  std::optional<int64_t> targets_from = std::nullopt;

  bool by_document() const { return context > 0 || targets_from.has_value(); }
  int64_t first_target() const { return targets_from.value_or(context / 2); }
  // A ConfigError that names the option.
  absl::Status Validate() const;
};

// Tokens at positions [begin, end), or all of a set.
struct LossBucket {
  int64_t begin = 0, end = 0;
  int64_t tokens = 0, bytes = 0;
  double loss_sum = 0;  // nats

  double loss() const { return loss_sum / static_cast<double>(tokens); }
  double bits_per_byte() const;
};

struct SetLoss {
  std::string name;
  int64_t samples = 0;
  LossBucket total;
  std::vector<LossBucket> buckets;  // [1, 2), [2, 4), [4, 8), ...; those with tokens
};

// `progress`, if given, is called with the samples done so far.
absl::StatusOr<SetLoss> EvaluateLoss(LanguageModel& model, const ValidationSet& set,
                                     const LossOptions& options,
                                     const std::function<void(int64_t)>& progress = {});

// A table for people; how tokens were scored is its first line.
std::string LossText(const std::vector<SetLoss>& losses, const LossOptions& options);
nlohmann::ordered_json LossJson(const std::vector<SetLoss>& losses, const LossOptions& options);

}  // namespace lacuna
