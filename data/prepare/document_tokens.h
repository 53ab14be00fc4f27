// From a raw document to what a shard holds of it: a text's tokens, or a conversation's with their
// loss mask.
#pragma once

#include <cstdint>
#include <optional>
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
};

// Immutable; may be called from several threads at once.
class DocumentTokenizer {
 public:
  // `tokenizer` and `options` must outlive this. Errors: ChatTokenizer::Create's.
  static absl::StatusOr<DocumentTokenizer> Create(const Tokenizer& tokenizer,
                                                  const PrepareOptions& options);

  // Data errors name file and line: ExtractText's, or ParseConversation's and ChatTokenizer's.
  absl::StatusOr<DocumentTokens> Tokenize(RawDocument document) const;

 private:
  DocumentTokenizer(const Tokenizer& tokenizer, const PrepareOptions& options)
      : tokenizer_(tokenizer), options_(options) {}
  absl::Status TokenizeText(RawDocument document, DocumentTokens* result) const;
  absl::Status TokenizeChat(RawDocument document, DocumentTokens* result) const;

  const Tokenizer& tokenizer_;
  const PrepareOptions& options_;
  std::optional<ChatTokenizer> chat_;
};

}  // namespace lacuna
