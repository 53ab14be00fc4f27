// Conversations as a chat template and a tokenizer make them into training data: every token with
// its loss and what decided it.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "data/chat/chat_template.h"
#include "data/tokenizer/tokenizer.h"
#include "tools/inspect/kind.h"

namespace lacuna::tools {

// Prints `count` conversations of a JSON lines file (maybe compressed), from number `first` on
// (lines that are not empty, from 0). Errors: ParseConversation's, ChatTokenizer's, and a ConfigError
// where there are no more than `first`.
absl::Status InspectChat(const std::string& path, const Tokenizer& tokenizer, ChatTemplateKind kind,
                         const ChatOptions& options, int64_t first, int64_t count);

class ChatView : public InspectKind {
 public:
  std::string name() const override { return "conversation file (*.jsonl, also compressed)"; }
  std::string example() const override {
    return "inspect chats.jsonl --tokenizer tokenizer.json --chat chatml --conversation 12";
  }
  bool Recognises(const std::string& path, std::string_view head) const override;
  void AddOptions(CLI::App& command) override;
  // Errors: InspectChat's and Tokenizer::Load's; a config error without --tokenizer or --chat.
  absl::Status Show(const InspectOptions& options) const override;

 private:
  ChatTemplateKind template_ = ChatTemplateKind::kNone;
  ChatOptions options_;
  int64_t conversation_ = 0, conversations_ = 3;  // the first to show, how many
};

}  // namespace lacuna::tools
