// Choosing the next token from logits.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace lacuna {

struct SamplingOptions {
  double temperature = 1.0;  // 0: the most likely token, ties to the lowest id
  // keep the smallest set of most likely tokens whose probability reaches this (Holtzman et al.,
  // 2020)
  double top_p = 1.0;
  uint64_t seed = 0;
};

// Token for one row of logits [V]. The random number is a pure function of (seed, sequence,
// position), so a batch gives every sequence the tokens it would have got alone. Ids from `limit`
// on (the padding of a vocabulary) are never chosen.
int32_t SampleToken(const Tensor& logits, const SamplingOptions& options, uint64_t sequence,
                    uint64_t position, int64_t limit);

}  // namespace lacuna
