#include "tools/inspect/chat_view.h"

#include <cstdio>

#include "core/status.h"
#include "data/chat/chat_text.h"
#include "data/chat/chat_tokens.h"
#include "data/prepare/document_reader.h"

namespace lacuna::tools {

absl::Status InspectChat(const std::string& path, const Tokenizer& tokenizer, ChatTemplateKind kind,
                         const ChatOptions& options, int64_t first, int64_t count) {
  LACUNA_ASSIGN_OR_RETURN(const ChatTokenizer chat,
                          ChatTokenizer::Create(tokenizer, kind, options));
  LACUNA_ASSIGN_OR_RETURN(const InputFiles inputs, FindInputs({path}, {"jsonl", "ndjson"}));
  DocumentReader reader(inputs.files);
  int64_t number = 0;
  for (RawDocument document; number < first + count; ++number) {
    LACUNA_ASSIGN_OR_RETURN(const bool found, reader.Next(&document));
    if (!found) break;
    if (number < first) continue;
    const std::string where = document.Where();
    LACUNA_ASSIGN_OR_RETURN(const Conversation conversation,
                            ParseConversation(document.bytes, where));
    LACUNA_ASSIGN_OR_RETURN(const ChatTokens tokens, chat.Encode(conversation, where));
    fmt::print("{}--- {}: {} messages, {} tokens, {} of them with a loss ({})\n{}",
               number == first ? "" : "\n", where, conversation.messages.size(), tokens.ids.size(),
               tokens.num_in_loss(), DescribeChat(kind, options),
               ChatText(tokens, conversation, tokenizer));
  }
  if (number <= first && count > 0)
    return ConfigError("{}: holds {} conversations, there is no number {}", path, number, first);
  return absl::OkStatus();
}

}  // namespace lacuna::tools
