// Conversations and a tokenizer that has every chat template's special tokens.
#pragma once

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/status.h"
#include "data/chat/conversation.h"
#include "data/tokenizer/bpe_trainer.h"
#include "tests/data/tokenizer_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna::test {

inline std::vector<std::string> AllChatTokens() {
  std::vector<std::string> tokens = DefaultSpecialTokens();
  tokens.resize(24);
  for (const char* token :
       {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
        "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"})
    tokens.push_back(token);
  return tokens;
}

// Learnt from a text with runs of line feeds and with the templates' words, so that tokens could
// run over the borders of segments.
inline Tokenizer TrainChatTokenizer(const std::vector<std::string>& special_tokens) {
  std::string text;
  for (int i = 0; i < 8; ++i) {
    text += "user\n\nassistant\n\n\n### Assistant\nsystem\n\nHello there, <think>\n</think>\n\n";
    text += "good  good morning \n\n  the answer\n";
  }
  auto trainer =
      BpeTrainer::Create({.vocab_size = static_cast<int64_t>(special_tokens.size()) + 256 + 100,
                          .special_tokens = special_tokens});
  LACUNA_CHECK(trainer.ok(), "{}", Message(trainer.status()));
  LACUNA_CHECK(trainer->Add({text}).ok(), "training");
  return *trainer->Train();
}

inline const Tokenizer& ChatTestTokenizer() {
  static const Tokenizer tokenizer = TrainChatTokenizer(AllChatTokens());
  return tokenizer;
}

// Its tokenizer.json.
inline nlohmann::json JsonOf(const Tokenizer& tokenizer) {
  const TempDir dir;
  LACUNA_CHECK(tokenizer.Save(dir / "tokenizer.json").ok(), "cannot save a tokenizer");
  return nlohmann::json::parse(*ReadFile(dir / "tokenizer.json", 1 << 24, ExitCode::kData));
}

inline ChatMessage System(const std::string& content) {
  return {.role = ChatRole::kSystem, .content = content, .reasoning = ""};
}
inline ChatMessage User(const std::string& content) {
  return {.role = ChatRole::kUser, .content = content, .reasoning = ""};
}
inline ChatMessage Answer(const std::string& content, const std::string& reasoning = "") {
  return {.role = ChatRole::kAssistant, .content = content, .reasoning = reasoning};
}

// One to four turns with and without a system message and reasoning. No content holds a special
// token, and none begins with a line feed.
inline Conversation RandomConversation(std::mt19937_64* rng) {
  constexpr const char* kParts[] = {
      "Hello",      " there",     "\n\n",      "good morning", "  ",
      "稀疏注意力", "\U0001f600", "{{ x }}",   "it's \"so\"",  "/path",
      "\r\n",       "e\u0301",    "assistant", "\t- 12345.6",  ""};
  const auto below = [&](size_t n) { return static_cast<size_t>((*rng)() % n); };
  const auto text = [&] {
    std::string result(1, static_cast<char>('a' + below(26)));
    for (size_t i = below(8); i > 0; --i) result += kParts[below(std::size(kParts))];
    return below(4) == 0 ? " " + result : result;
  };
  Conversation conversation;
  if (below(2) == 0) conversation.messages.push_back(System(text()));
  for (size_t turns = 1 + below(4); turns > 0; --turns) {
    conversation.messages.push_back(User(text()));
    conversation.messages.push_back(Answer(text(), below(2) == 0 ? text() : ""));
  }
  return conversation;
}

}  // namespace lacuna::test
