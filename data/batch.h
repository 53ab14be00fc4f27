// What a model trains on in one micro-batch, or is evaluated on: tokens, what each must predict,
// and where documents begin.
#pragma once

#include <cstdint>
#include <vector>

#include "core/packed_sequences.h"
#include "core/tensor.h"

namespace lacuna {

// One or more samples of sequence_length rows, one after the other; N rows in all.
//
// Documents: a document's rows in a sample are one sequence; no document reaches from one sample
// into the next, so a document cut by the end of a sample goes on in another sample as a sequence
// of its own. Padding is one sequence, the last of its sample.
//
// Targets shift inside documents only: the last token of a document (its end-of-document token)
// predicts nothing, while the last row before a cut predicts the token behind the cut. Padding is
// told by position, never by token id.
//
// Where ranks share samples, ids and targets are a rank's rows of them (KeepContextRows in
// recipes/trainer/batch_share.h).
struct Batch {
  Tensor ids;  // [N] i32
  // [N] i32, the next token of the document; -1: no loss (a document's end, a token masked in its
  // shard, padding)
  Tensor targets;
  PackedSequences sequences = PackedSequences({0});
  int64_t num_target_tokens = 0;  // targets that are not -1
  // rows without padding; one element for each source of the loader
  std::vector<int64_t> tokens_per_source;
  std::vector<int64_t> source_of_sample;  // in the order of the samples
  // Sum (mod 2^64) over the samples of XXH3-64 of their ids, seeded with the sample's number: the
  // same for the same samples however they are shared out among batches and ranks.
  uint64_t content_hash = 0;
};

}  // namespace lacuna
