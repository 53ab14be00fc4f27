// Comparing an exported folder, read by the reference model, with the model that was trained.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "recipes/export/probe.h"
#include "recipes/export/reference_model.h"

namespace lacuna {

// Two models' logits over the same tokens. KL(first || second) in nats; `largest` of |first|.
struct LogitAgreement {
  double max_difference = 0;
  int64_t at_token = 0;  // of the largest difference
  double kl_mean = 0, kl_max = 0;
  double top1 = 0;  // share of tokens with the same most likely next token
  double largest = 0;
};

// Logits of `count` rows from `begin` on, [count, V].
using LogitRows = std::function<Doubles(int64_t begin, int64_t count)>;
LogitRows RowsOf(const Tensor& logits);
LogitAgreement CompareLogits(int64_t tokens, int64_t vocabulary, const LogitRows& first,
                             const LogitRows& second);

// What rounding explains. Logits of f32 layers are off by about 1e-6 of their size for each of tens
// of layers; those of f64 layers by 1e-15.
struct Tolerance {
  double logits = 0;  // of max(1, the largest logit)
  double tie = 0;     // of a probability
};
Tolerance ToleranceOf(DType compute);

struct Verification {
  LogitAgreement logits;
  double limit = 0;  // of logits.max_difference
  std::vector<ReferenceTrace::Layer> layers;
  // Share of the greedy continuations' tokens that are the reference's first choice, too.
  double greedy = 0;
  std::vector<std::vector<int32_t>> continuations;  // of the probe's prompts
  // What the trained model chose on a prompt and its continuation.
  std::vector<std::vector<LayerDecisions>> continuation_layers;
  double yarn_factor = 1, attention_factor = 1;
  std::vector<double> inverse_frequencies;  // all three as the reference resolved them
  size_t num_tensors = 0;
};

// `trained`: TraceModel of the probe, on weights rounded as in the folder. A CheckpointError says
// what differs: logits beyond the limit, a decision that no tie explains, rotary frequencies.
absl::StatusOr<Verification> VerifyExport(const std::string& folder, BuiltModel& built,
                                          const Recipe& recipe, const Probe& probe,
                                          const ModelTrace& trained);

}  // namespace lacuna
