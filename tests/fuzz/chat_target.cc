// JSON lines of conversations.
#include "data/chat/conversation.h"
#include "data/prepare/document_reader.h"
#include "data/tokenizer/utf8.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

namespace lacuna::test {
namespace {

Reading ReadConversations(const std::string& path) {
  const std::vector<InputFile> files = {{path, "c"}};
  DocumentReader reader(files);
  Reading reading;
  for (RawDocument raw;;) {
    const auto more = reader.Next(&raw);
    if (!more.ok()) return {more.status()};
    if (!*more) return reading;
    const auto conversation = ParseConversation(raw.bytes, raw.Where());
    if (!conversation.ok()) return {conversation.status()};
    bool answered = false;
    for (const ChatMessage& message : conversation->messages) {
      answered |= message.role == ChatRole::kAssistant;
      if (FirstInvalidUtf8(message.content) >= 0 || FirstInvalidUtf8(message.reasoning) >= 0)
        reading.broken = "gives text that is not UTF-8";
    }
    if (!answered) reading.broken = "gives a conversation without an answer";
    reading.contents += conversation->Canonical() + "\n";
    raw = {};
  }
}

}  // namespace

FuzzTarget ChatTarget() {
  const auto dir = std::make_shared<TempDir>();
  const std::string path = *dir / "c.jsonl";
  FuzzTarget target;
  target.name = "chat_json_lines";
  target.uncovered = "no checksum: a text format";
  target.place = path;
  target.keep = dir;
  target.seeds = {
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"q\u00e9"},)"
      R"({"role":"assistant","content":"a","reasoning_content":"r"}],"id":1})"
      "\n"
      R"({"prompt":"p","completion":"<think>\nt\n</think>\n\nc"})"
      "\n",
      R"({"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]})"};
  target.words = {"\"role\":",  "\"assistant\"", "\"user\"", "\"system\"", "\"tool_calls\":[]",
                  "<think>",    "</think>",      "null",     "{}",         "\"prompt\":\"\",",
                  "\"from\":1", "\\ud83d",       "\xC3\x28", "[[[["};
  target.read = [path](const std::string& bytes) {
    PutFile(path, bytes);
    return ReadConversations(path);
  };
  return target;
}

}  // namespace lacuna::test
