#include "recipes/evaluation/chat_prompt.h"

#include "core/status.h"
#include "data/chat/chat_tokens.h"

namespace lacuna {

absl::StatusOr<GenerationPrompt> EncodeGenerationPrompt(const Tokenizer& tokenizer,
                                                        const std::string& chat,
                                                        const std::string& question) {
  ChatTemplateKind kind = ChatTemplateKind::kNone;
  std::string known;
  for (const auto& [name, value] : NamesOfChatTemplates()) {
    if (value == ChatTemplateKind::kNone) continue;
    if (name == chat) kind = value;
    known += (known.empty() ? "" : ", ") + name;
  }
  if (kind == ChatTemplateKind::kNone)
    return ConfigError("--chat {}: unknown template, known are {}", chat, known);
  LACUNA_ASSIGN_OR_RETURN(const ChatTokenizer tokens, ChatTokenizer::Create(tokenizer, kind, {}));
  const Conversation conversation{
      .messages = {{.role = ChatRole::kUser, .content = question, .reasoning = ""}}};
  GenerationPrompt prompt{.ids = {}, .stop_ids = tokens.stop_ids()};
  LACUNA_ASSIGN_OR_RETURN(prompt.ids, tokens.EncodePrompt(conversation, "question"));
  return prompt;
}

}  // namespace lacuna
