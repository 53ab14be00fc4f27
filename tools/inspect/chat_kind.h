// Conversations in JSON lines: some of them as a chat template makes them into training data.
#pragma once

#include <string>

#include "data/chat/chat_template.h"
#include "tools/inspect/kind.h"

namespace lacuna::tools {

class ChatKind : public InspectKind {
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
