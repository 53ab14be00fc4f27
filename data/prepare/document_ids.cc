#include "data/prepare/document_ids.h"

#include <algorithm>

namespace lacuna {

absl::StatusOr<DocumentIds> ReadDocumentIds(const RawDocument& document, const Tokenizer& tokenizer,
                                            std::span<const uint16_t> token_bytes) {
  DocumentIds result;
  std::vector<int32_t>& tokens = result.tokens;
  LACUNA_RETURN_IF_ERROR(document.megatron->ParseTokens(document.number, document.bytes,
                                                        tokenizer.vocab_size(), &tokens));
  if (tokens.empty()) return result;
  if (tokens.back() == tokenizer.eod_id()) {
    tokens.pop_back();
  } else {
    result.end_added = true;
  }
  if (tokens.empty()) return result;
  for (const int32_t token : tokens) result.text_bytes += token_bytes[static_cast<size_t>(token)];
  result.text = tokenizer.Decode(tokens);
  result.inner_end = std::find(tokens.begin(), tokens.end(), tokenizer.eod_id()) != tokens.end();
  tokens.push_back(tokenizer.eod_id());
  return result;
}

}  // namespace lacuna
