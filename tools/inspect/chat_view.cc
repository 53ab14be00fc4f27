#include "tools/inspect/chat_view.h"

#include <cstdio>
#include <map>

#include "core/status.h"
#include "data/chat/chat_text.h"
#include "data/chat/chat_tokens.h"
#include "data/prepare/byte_stream.h"
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

bool ChatView::Recognises(const std::string& path, std::string_view) const {
  const std::string name = UncompressedName(path);
  return name.ends_with(".jsonl") || name.ends_with(".ndjson");
}

void ChatView::AddOptions(CLI::App& command) {
  std::map<std::string, ChatTemplateKind> names;
  for (const auto& [name, kind] : NamesOfChatTemplates()) {
    if (kind != ChatTemplateKind::kNone) names[name] = kind;
  }
  command.add_option("--chat", template_, "Chat template: plain, chatml, llama3, deepseek or glm")
      ->transform(CLI::CheckedTransformer(names));
  command
      .add_option("--history-thinking", options_.history_thinking,
                  "Reasoning before the last user message: drop or keep")
      ->transform(CLI::CheckedTransformer(std::map<std::string, HistoryThinking>{
          {"drop", HistoryThinking::kDrop}, {"keep", HistoryThinking::kKeep}}));
  command.add_option("--loss-turns", options_.loss_turns, "Answers with a loss: last or all")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, LossTurns>{{"last", LossTurns::kLast}, {"all", LossTurns::kAll}}));
  command.add_option("--conversation", conversation_, "First conversation to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--conversations", conversations_, "Conversations to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

absl::Status ChatView::Show(const InspectOptions& options) const {
  if (options.tokenizer.empty() || template_ == ChatTemplateKind::kNone) {
    return ConfigError(
        "inspect: {}: conversations need --tokenizer and --chat, which make them tokens",
        options.path);
  }
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(options.tokenizer));
  return InspectChat(options.path, tokenizer, template_, options_, conversation_, conversations_);
}

}  // namespace lacuna::tools
