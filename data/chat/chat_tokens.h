// Conversations as token ids, each token with or without a loss.
//
// Ids are those that an inference stack gives to the rendered text: special tokens of the markup
// become their ids, and what stands between two of them, markup and content joined, is encoded as
// one piece. Where a loss begins or ends inside a piece, a token must end there, and the tokens
// before it must be those that the text before it has by itself: then a model is asked for an answer
// with the very tokens it was trained on. Content that lets a token run over that place, such as a
// line feed that merges with the header's, is refused.
//
//   LACUNA_ASSIGN_OR_RETURN(const ChatTokenizer chat,
//                           ChatTokenizer::Create(tokenizer, ChatTemplateKind::kChatml, options));
//   LACUNA_ASSIGN_OR_RETURN(const ChatTokens tokens, chat.Encode(conversation, "a.jsonl:12"));
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "data/chat/chat_template.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna {

// One conversation.
struct ChatTokens {
  std::vector<int32_t> ids;
  std::vector<uint8_t> in_loss;  // [ids] 1: the token is predicted with a loss
  // [ids] the segment that decided it, the one its first byte is in (near that, where the tokenizer
  // normalises text to another length); -1: the end of document behind the conversation
  std::vector<int32_t> segment;
  std::vector<ChatSegment> segments;
  int64_t text_bytes = 0;  // of everything but special tokens

  int64_t num_in_loss() const;
};

// Immutable; all functions may be called from several threads at once.
class ChatTokenizer {
 public:
  // A ConfigError where the tokenizer lacks special tokens of the template (it lists them), or one
  // of them takes the white space beside it.
  static absl::StatusOr<ChatTokenizer> Create(const Tokenizer& tokenizer, ChatTemplateKind kind,
                                              const ChatOptions& options);

  // The conversation and, where it does not end with it, the end of document without a loss.
  // DataErrors begin with `where`: a loss that begins or ends inside a token, two of the template's
  // beginnings at the start, content with a token of the template that the tokenizer does not mark
  // as special, so that it would not stay text.
  absl::StatusOr<ChatTokens> Encode(const Conversation& conversation,
                                    const std::string& where) const;
  // What a model is given to answer the conversation. Errors as above.
  absl::StatusOr<std::vector<int32_t>> EncodePrompt(const Conversation& conversation,
                                                    const std::string& where) const;
  // Any of them ends an answer; the end of document is one.
  const std::vector<int32_t>& stop_ids() const { return stop_ids_; }
  const ChatTemplate& format() const { return format_; }

 private:
  struct Piece;

  ChatTokenizer(Tokenizer tokenizer, ChatTemplate format, ChatOptions options)
      : tokenizer_(std::move(tokenizer)), format_(std::move(format)), options_(options) {}
  absl::Status CheckMarkupTokens() const;
  absl::Status CheckContents(const std::vector<ChatSegment>& segments,
                             const std::string& where) const;
  absl::StatusOr<ChatTokens> EncodeSegments(std::vector<ChatSegment> segments,
                                            const std::string& where) const;
  // Encodes what `piece` collected, and empties it.
  absl::Status Flush(Piece* piece, const std::string& where, ChatTokens* tokens) const;

  Tokenizer tokenizer_;
  ChatTemplate format_;
  ChatOptions options_;
  std::vector<std::pair<std::string, int32_t>> markup_tokens_;  // text and id
  std::vector<std::string> forgeable_;  // the template's tokens that content could hold as ids
  std::vector<int32_t> stop_ids_;
};

}  // namespace lacuna
