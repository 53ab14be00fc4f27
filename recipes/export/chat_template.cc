#include "recipes/export/chat_template.h"

#include "core/status.h"
#include "data/chat/chat_tokens.h"

namespace lacuna {

absl::StatusOr<std::optional<ExportedChat>> ExportChatTemplate(const Recipe& recipe,
                                                               const Tokenizer& tokenizer) {
  const ChatTemplateKind kind = recipe.data.chat_template;
  if (kind == ChatTemplateKind::kNone) return std::nullopt;
  LACUNA_ASSIGN_OR_RETURN(const ChatTokenizer chat, ChatTokenizer::Create(tokenizer, kind, {}));
  return ExportedChat{.jinja = ChatTemplateJinja(chat.format(), HistoryThinking::kDrop),
                      .stop_ids = chat.stop_ids()};
}

}  // namespace lacuna
