// The documents of a corpus cut into what a model sees at once to score certain tokens
// (recipes/evaluation/loss.h, "by document").
#pragma once

#include <cstdint>
#include <vector>

#include "data/token_corpus.h"

namespace lacuna {

// Tokens [begin, end) of a document are the input and the targets: token i is predicted from tokens
// begin .. i - 1, for i in [first_target, end). Positions count from `piece`, the piece's first
// token.
struct Window {
  int64_t document = 0;
  int64_t piece = 0;
  int64_t begin = 0, end = 0;
  int64_t first_target = 0;

  bool operator==(const Window&) const = default;
};

// Windows of the first `max_pieces` (0: all) pieces of `length` tokens that have a token at a
// position >= max(first_position, 1); `context` as in LossOptions. `pieces`, if asked for, is how
// many there are.
std::vector<Window> MakeWindows(const TokenCorpus& corpus, int64_t length, int64_t context,
                                int64_t first_position, int64_t max_pieces, int64_t* pieces);

}  // namespace lacuna
