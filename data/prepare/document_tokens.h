// From a raw document to what a shard holds of it: a text's tokens, a conversation's with their loss
// mask, or the token ids that the document is.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "data/chat/chat_tokens.h"
#include "data/prepare/document_reader.h"
#include "data/prepare/prepare.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna {

struct DocumentTokens {
  // Why a document is left out.
  enum class LeftOut { kNo, kEmpty, kTooLong, kNoLoss };

  LeftOut left_out = LeftOut::kNo;
  std::vector<int32_t> tokens;     // the last is the end of document
  std::vector<uint8_t> loss_mask;  // of a conversation; else none
  int64_t text_bytes = 0;
  size_t split = 0;  // data/prepare/holdout.h
  bool had_byte_order_mark = false, had_crlf = false, repaired = false;
  bool was_ids = false, end_added = false, inner_end = false;  // data/prepare/document_ids.h
};

// Immutable; may be called from several threads at once.
class DocumentTokenizer {
 public:
  // The arguments must outlive this; token_bytes: [tokenizer.vocab_size()], the text bytes of each
  // token. Errors: ChatTokenizer::Create's.
  static absl::StatusOr<DocumentTokenizer> Create(const Tokenizer& tokenizer,
                                                  std::span<const uint16_t> token_bytes,
                                                  const PrepareOptions& options);

  // Data errors name file and line: ExtractText's, ParseConversation's and ChatTokenizer's, or
  // ReadDocumentIds'.
  absl::StatusOr<DocumentTokens> Tokenize(RawDocument document) const;

 private:
  DocumentTokenizer(const Tokenizer& tokenizer, std::span<const uint16_t> token_bytes,
                    const PrepareOptions& options)
      : tokenizer_(tokenizer), token_bytes_(token_bytes), options_(options) {}
  absl::Status TokenizeText(RawDocument document, DocumentTokens* result) const;
  absl::Status TokenizeChat(RawDocument document, DocumentTokens* result) const;
  absl::Status TakeIds(const RawDocument& document, DocumentTokens* result) const;

  const Tokenizer& tokenizer_;
  std::span<const uint16_t> token_bytes_;
  const PrepareOptions& options_;
  std::optional<ChatTokenizer> chat_;
};

}  // namespace lacuna
