// Tokens as text for people.
//
// What matters of a token is whether it is *predicted with a loss*. A document's first token never
// is, because nothing stands before it; the others are unless they are masked.
//   In colours: a document has one colour, its shade alternates from token to token, and tokens
//     without a loss are dim.
//   Plain: the text as it stands. Only where a document has masked tokens, everything of it that
//     is without a loss stands between ⟦ and ⟧ (U+27E6, U+27E7). Where the text itself has these
//     two characters they are written \u27E6 and \u27E7, so that a bracket is always a mark.
// In both, control characters but line feeds and tabs, and bytes of a character that is not whole
// in what is shown, are written \xHH.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/tokenizer.h"

namespace lacuna::tools {

// Tokens of one document that stand together.
struct DocumentTokens {
  std::vector<int32_t> ids;
  std::vector<bool> predicted;  // [ids] with a loss

  // Tokens behind the first that are without a loss.
  int64_t num_masked() const;
};

struct TextStyle {
  const Tokenizer* tokenizer = nullptr;  // none: ids in place of text
  bool colour = false;
  int64_t number = 0;  // of the document, to choose its colour by
};

// The first `most` of the document's tokens, a line end, and one line that says how many were left
// out, if any.
std::string DocumentText(const DocumentTokens& document, int64_t most, const TextStyle& style);

// Bytes of tokens as they are shown (see above).
std::string VisibleText(std::string_view bytes, bool colour);

}  // namespace lacuna::tools
