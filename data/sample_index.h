// How one epoch of one source is cut into samples: for each sample the document fragments that fill
// it.
//
// Documents come in an order of their own for each (seed, stage, source, epoch), are packed, and
// the samples are shuffled, too, so that the pieces of a long document do not follow each other.
// Every token of the source (of kWhole: of the documents that fit) is in exactly one sample. The number of samples is the same in every
// epoch:
//   kConcat       ceil(tokens / L): the documents one after the other, cut every L tokens; only the
//     last sample is padded
//   kBestFit      documents of L tokens and more fill samples of their own; what is left of them
//     and the shorter documents are packed
//                 by best fit decreasing (Ding et al., "Fewer Truncations Improve Language
//                   Modeling", 2024). Which lengths share a
//                 sample does not depend on the order; which documents of a length do, does
//   kOneDocument  sum of ceil(length / L): as kBestFit, with one fragment a sample
//   kWhole        as kBestFit, without the documents of more than L tokens: nothing is ever cut
//     (conversations)
// L = sequence_length. Documents without tokens are left out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/data_config.h"
#include "data/token_corpus.h"

namespace lacuna {

struct SampleIndexOptions {
  Packing packing = Packing::kConcat;
  int64_t sequence_length = 0;
  uint64_t seed = 0;
  std::string stage;
  std::string source;
  int64_t epoch = 0;
};

class SampleIndex {
 public:
  // A pure function of its arguments.
  static SampleIndex Build(const TokenCorpus& corpus, const SampleIndexOptions& options);

  // An index file (HDF5: /sample_begin, /order, /fragments, attribute key) for the same corpus and
  // options, verified; a data error where there is none or it is damaged.
  static absl::StatusOr<SampleIndex> Read(const std::string& path, uint64_t key);
  // Whole or not at all: written beside `path`, then renamed.
  absl::Status Write(const std::string& path, uint64_t key) const;
  // Names the index of this corpus and options: equal keys, equal indexes.
  static uint64_t Key(const TokenCorpus& corpus, const SampleIndexOptions& options);

  int64_t num_samples() const { return static_cast<int64_t>(order_.size()); }
  // Fragments of sample i in [0, num_samples()); their lengths sum to at most sequence_length.
  std::span<const Fragment> Sample(int64_t i) const;

 private:
  std::vector<int64_t> sample_begin_;  // [num_samples + 1], first fragment of each packed sample
  std::vector<int64_t> order_;         // [num_samples], the packed sample in place i
  std::vector<Fragment> fragments_;
};

}  // namespace lacuna
