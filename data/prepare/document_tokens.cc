#include "data/prepare/document_tokens.h"

#include <utility>

#include "core/status.h"
#include "data/prepare/document_ids.h"
#include "data/prepare/document_text.h"
#include "data/tokenizer/utf8.h"

namespace lacuna {

absl::StatusOr<DocumentTokenizer> DocumentTokenizer::Create(const Tokenizer& tokenizer,
                                                            std::span<const uint16_t> token_bytes,
                                                            const PrepareOptions& options) {
  DocumentTokenizer result(tokenizer, token_bytes, options);
  if (options.chat_template != ChatTemplateKind::kNone) {
    LACUNA_ASSIGN_OR_RETURN(result.chat_,
                            ChatTokenizer::Create(tokenizer, options.chat_template, options.chat));
  }
  return result;
}

absl::StatusOr<DocumentTokens> DocumentTokenizer::Tokenize(RawDocument document) const {
  DocumentTokens result;
  result.had_byte_order_mark = document.had_byte_order_mark;
  LACUNA_RETURN_IF_ERROR(document.megatron ? TakeIds(document, &result)
                         : chat_           ? TokenizeChat(std::move(document), &result)
                                           : TokenizeText(std::move(document), &result));
  return result;
}

absl::Status DocumentTokenizer::TakeIds(const RawDocument& document, DocumentTokens* result) const {
  if (chat_)
    return DataError("{}: is token ids, conversations are read from *.jsonl and *.ndjson alone",
                     document.file->path);
  LACUNA_ASSIGN_OR_RETURN(DocumentIds ids, ReadDocumentIds(document, tokenizer_, token_bytes_));
  result->was_ids = true;
  result->end_added = ids.end_added;
  result->inner_end = ids.inner_end;
  result->text_bytes = ids.text_bytes;
  result->split = SplitOf(document.file->name, ids.text, options_.holdouts);
  result->tokens = std::move(ids.tokens);
  if (result->tokens.empty()) result->left_out = DocumentTokens::LeftOut::kEmpty;
  return absl::OkStatus();
}

absl::Status DocumentTokenizer::TokenizeText(RawDocument document, DocumentTokens* result) const {
  const InputFile& file = *document.file;
  const std::string where = document.Where();
  LACUNA_ASSIGN_OR_RETURN(const DocumentText text, ExtractText(std::move(document), options_.text));
  if (text.text.empty()) {
    result->left_out = DocumentTokens::LeftOut::kEmpty;
    return absl::OkStatus();
  }
  result->had_crlf = text.had_crlf;
  result->repaired = text.repaired;
  result->text_bytes = static_cast<int64_t>(text.text.size());
  result->split = SplitOf(file.name, text.text, options_.holdouts);
  const absl::Status status = tokenizer_.Encode(text.text, &result->tokens);
  if (!status.ok()) return DataError("{}: {}", where, Message(status));
  result->tokens.push_back(tokenizer_.eod_id());
  return absl::OkStatus();
}

absl::Status DocumentTokenizer::TokenizeChat(RawDocument document, DocumentTokens* result) const {
  const std::string where = document.Where();
  if (document.line == 0)
    return DataError("{}: conversations are read from *.jsonl and *.ndjson alone", where);
  LACUNA_RETURN_IF_ERROR(CheckUtf8(&document, options_.text, &result->repaired));
  LACUNA_ASSIGN_OR_RETURN(Conversation conversation, ParseConversation(document.bytes, where));
  if (!options_.text.keep_crlf) {
    for (ChatMessage& message : conversation.messages) {
      result->had_crlf |= CrlfToLf(&message.content);
      result->had_crlf |= CrlfToLf(&message.reasoning);
    }
  }
  result->split = SplitOf(document.file->name, conversation.Canonical(), options_.holdouts);
  LACUNA_ASSIGN_OR_RETURN(ChatTokens chat, chat_->Encode(conversation, where));
  if (options_.max_tokens > 0 && static_cast<int64_t>(chat.ids.size()) > options_.max_tokens) {
    result->left_out = DocumentTokens::LeftOut::kTooLong;
  } else if (chat.num_in_loss() == 0) {
    result->left_out = DocumentTokens::LeftOut::kNoLoss;
  }
  result->tokens = std::move(chat.ids);
  result->loss_mask = std::move(chat.in_loss);
  result->text_bytes = chat.text_bytes;
  return absl::OkStatus();
}

}  // namespace lacuna
