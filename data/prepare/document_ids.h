// From a document that is token ids already to the tokens of a shard.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/prepare/document_reader.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna {

struct DocumentIds {
  std::vector<int32_t> tokens;  // with their end of document; none where there is nothing before it
  int64_t text_bytes = 0;       // sum of the tokens' lengths
  std::string text;             // what the tokens decode to, the last end of document left out
  bool end_added = false;       // the document did not end with the end of document
  bool inner_end = false;       // it holds another one before its end
};

// `document.megatron` is set. token_bytes: [tokenizer.vocab_size()], the text bytes of each token.
// Thread-safe. Data errors: MegatronFile::ParseTokens'.
absl::StatusOr<DocumentIds> ReadDocumentIds(const RawDocument& document, const Tokenizer& tokenizer,
                                            std::span<const uint16_t> token_bytes);

}  // namespace lacuna
