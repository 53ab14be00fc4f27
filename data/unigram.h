// The baseline that any language model must beat: tokens drawn independently, each as often as in
// the training text.
#pragma once

#include <cstdint>
#include <vector>

#include "data/token_corpus.h"
#include "data/validation_set.h"

namespace lacuna {

// p(t) = (count(t) + 1) / (sum of counts + V), the counts over all tokens that can be targets: all
// but each document's first and the masked ones.
class UnigramModel {
 public:
  explicit UnigramModel(int64_t vocab_size) : counts_(static_cast<size_t>(vocab_size), 0) {}

  // Tokens outside the vocabulary are misuse (lacuna::Error).
  void Count(const TokenCorpus& corpus);
  // -sum of log2 p over the set's targets / bytes of their text. NaN for a set without targets.
  double BitsPerByte(const ValidationSet& set) const;

 private:
  std::vector<int64_t> counts_;
  int64_t total_ = 0;
};

}  // namespace lacuna
