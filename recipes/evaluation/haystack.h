// Long contexts with a fact hidden in them, as token ids.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/token_corpus.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna {

// "\nThe secret number of <city> is <5 digits>.\n" somewhere in a text, and at its end
// "\nThe secret number of <city> is".
struct NeedleTrial {
  std::vector<int32_t> ids;  // all of it; the model must go on with the digits
  std::string city;
  std::string digits;
  int64_t digits_begin = 0, digits_end = 0;  // where in ids the needle's number is
  int64_t answer_tokens = 0;                 // tokens of the number
};

class Haystack {
 public:
  // Both must outlive this; the corpus must hold some text.
  Haystack(const TokenCorpus& corpus, const Tokenizer& tokenizer)
      : corpus_(corpus), tokenizer_(tokenizer) {}

  // A context of exactly `length` tokens, the needle behind `depth` percent of the text around it.
  // City, number and the place in the corpus where the text is from follow from (seed, trial), so
  // that a trial differs between depths in the needle's place alone. A ConfigError where needle and
  // question do not fit.
  absl::StatusOr<NeedleTrial> Make(int64_t length, int64_t depth, uint64_t seed,
                                   uint64_t trial) const;

 private:
  // `count` tokens of the corpus from token `from` on, ends of documents left out, from the start
  // again behind the last.
  std::vector<int32_t> Text(int64_t count, int64_t from) const;

  const TokenCorpus& corpus_;
  const Tokenizer& tokenizer_;
};

}  // namespace lacuna
