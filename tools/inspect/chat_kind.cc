#include "tools/inspect/chat_kind.h"

#include <map>

#include "core/status.h"
#include "data/prepare/byte_stream.h"
#include "tools/inspect/chat_view.h"

namespace lacuna::tools {

bool ChatKind::Recognises(const std::string& path, std::string_view) const {
  const std::string name = UncompressedName(path);
  return name.ends_with(".jsonl") || name.ends_with(".ndjson");
}

void ChatKind::AddOptions(CLI::App& command) {
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

absl::Status ChatKind::Show(const InspectOptions& options) const {
  if (options.tokenizer.empty() || template_ == ChatTemplateKind::kNone) {
    return ConfigError(
        "inspect: {}: conversations need --tokenizer and --chat, which make them tokens",
        options.path);
  }
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(options.tokenizer));
  return InspectChat(options.path, tokenizer, template_, options_, conversation_, conversations_);
}

}  // namespace lacuna::tools
