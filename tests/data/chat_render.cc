// Renders conversations for chat_template_test.py: chat_render TEMPLATE drop|keep, a conversation a
// line on standard input. Prints a JSON line with the Jinja template, then one for each
// conversation: {"text", "prompt"} or {"error"}.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/status.h"
#include "data/chat/chat_template.h"

int main(int argc, char** argv) {
  using namespace lacuna;
  if (argc != 3) return 2;
  ChatTemplateKind kind = ChatTemplateKind::kNone;
  for (const auto& [name, named] : NamesOfChatTemplates()) {
    if (name == argv[1]) kind = named;
  }
  ChatOptions options;
  if (std::string(argv[2]) == "keep") options.history_thinking = HistoryThinking::kKeep;
  const ChatTemplate format = MakeChatTemplate(kind);
  const auto print = [](const nlohmann::json& json) { std::puts(json.dump().c_str()); };
  print({{"jinja", ChatTemplateJinja(format, options.history_thinking)}});
  for (std::string line; std::getline(std::cin, line);) {
    const auto conversation = ParseConversation(line, "line");
    if (!conversation.ok()) {
      print({{"error", Message(conversation.status())}});
      continue;
    }
    nlohmann::json result;
    for (const LossTurns loss_turns : {LossTurns::kLast, LossTurns::kAll}) {
      options.loss_turns = loss_turns;
      result["text"].push_back(TextOf(RenderChat(format, *conversation, options)));
      result["prompt"].push_back(TextOf(RenderChat(format, *conversation, options, true)));
    }
    print(result);
  }
  return 0;
}
