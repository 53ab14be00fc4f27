// Lines of chat data: the three formats, reasoning, and what is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/status.h"
#include "data/chat/conversation.h"
#include "tests/data/chat_fixture.h"

namespace lacuna {
namespace {

using test::Answer;
using test::System;
using test::User;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<ChatMessage> Parse(const std::string& line) {
  const auto conversation = ParseConversation(line, "a.jsonl:7");
  EXPECT_TRUE(conversation.ok()) << conversation.status();
  return conversation.ok() ? conversation->messages : std::vector<ChatMessage>{};
}

std::string Error(const std::string& line) {
  const auto conversation = ParseConversation(line, "a.jsonl:7");
  if (conversation.ok()) return "no error";
  EXPECT_EQ(ExitCodeOf(conversation.status()), ExitCode::kData);
  std::string message = Message(conversation.status());
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  EXPECT_TRUE(message.starts_with("a.jsonl:7: ")) << message;
  return message.erase(0, 11);
}

// A messages line around one message.
std::string Around(const std::string& message) {
  return R"({"messages":[{"role":"user","content":"q"},)" + message + "]}";
}

TEST(Conversation, ThreeFormats) {
  EXPECT_THAT(
      Parse(R"({"id":3,"messages":[{"role":"system","content":"s"},{"role":"user","content":" q\n"},
            {"role":"assistant","content":"a","reasoning_content":"r","name":null}],"tools":[]})"),
      ElementsAre(System("s"), User(" q\n"), Answer("a", "r")));
  EXPECT_THAT(Parse(R"({"prompt":"q","completion":"a","source":["x"]})"),
              ElementsAre(User("q"), Answer("a")));
  EXPECT_THAT(Parse(R"({"conversations":[{"from":"system","value":"s"},{"from":"human","value":"q"},
                       {"from":"gpt","value":"a"},{"from":"human","value":"q2"}]})"),
              ElementsAre(System("s"), User("q"), Answer("a"), User("q2")));
  // Data sets keep the prompt beside the messages; without a completion it is no format.
  EXPECT_THAT(Parse(R"({"prompt":"q","messages":[{"role":"assistant","content":"a"}]})"),
              ElementsAre(Answer("a")));
}

TEST(Conversation, ReasoningInContent) {
  const auto answer = [](const std::string& content) {
    return Parse(Around(R"({"role":"assistant","content":")" + content + "\"}"))[1];
  };
  EXPECT_EQ(answer(R"(<think>\nwhy\n</think>\n\n 42)"), Answer(" 42", "\nwhy\n"));
  EXPECT_EQ(answer(R"( \n<think>why</think>42</think>)"), Answer("42</think>", "why"));
  EXPECT_EQ(answer(R"(<think>a<think>b</think>c)"), Answer("c", "a<think>b"));
  EXPECT_EQ(answer(R"(<think>\n\n</think>\n\n42)"), Answer("42"));
  // These are text.
  EXPECT_EQ(answer("<think> without an end"), Answer("<think> without an end"));
  EXPECT_EQ(answer("so: <think>x</think>"), Answer("so: <think>x</think>"));
  EXPECT_EQ(Parse(R"({"prompt":"<think>x</think>q","completion":"<think>r</think>a"})"),
            (std::vector{User("<think>x</think>q"), Answer("a", "r")}));
  EXPECT_EQ(Parse(Around(R"({"role":"assistant","content":"a","reasoning_content":" \n"})"))[1],
            Answer("a"));
  EXPECT_EQ(Parse(Around(R"({"role":"assistant","content":"<think>r</think>a",
                            "reasoning_content":""})"))[1],
            Answer("a", "r"));
}

TEST(Conversation, RefusesFormats) {
  EXPECT_THAT(Error("{\"messages\":"), HasSubstr("is no JSON: column "));
  EXPECT_EQ(Error("[1]"), "found [1], expected an object");
  EXPECT_EQ(Error("{}"),
            "expected messages, conversations, or prompt and completion, found no keys at all");
  EXPECT_EQ(Error(R"({"message":[],"id":1})"),
            "expected messages, conversations, or prompt and completion, found only id, message");
  EXPECT_EQ(Error(R"({"prompt":"q"})"),
            "expected messages, conversations, or prompt and completion, found only prompt");
  EXPECT_EQ(Error(R"({"completion":"a"})"), "prompt: found nothing, expected a string");
  EXPECT_EQ(Error(R"({"prompt":[{"role":"user"}],"completion":"a"})"),
            "prompt: found [{\"role\":\"user\"}], expected a string");
  EXPECT_EQ(Error(R"({"messages":[],"conversations":[]})"),
            "holds messages and conversations: expected one of them");
  EXPECT_EQ(Error(R"({"messages":[],"completion":"a"})"),
            "holds messages and completion: expected one of them");
  EXPECT_EQ(Error(R"({"conversations":[],"completion":"a"})"),
            "holds conversations and completion: expected one of them");
  EXPECT_EQ(Error(R"({"conversations":[],"messages":[],"completion":"a"})"),
            "holds messages, conversations and completion: expected one of them");
  EXPECT_EQ(Error(R"({"messages":{"role":"user"}})"),
            "messages: found {\"role\":\"user\"}, expected a list of messages");
  EXPECT_EQ(Error(R"({"system":"be kind","conversations":[]})"),
            "system: is no key of a conversation: make it the first message");
  EXPECT_EQ(Error("{\"prompt\":\"\xC3(\",\"completion\":\"a\"}"), "byte 11 (0xC3) is not UTF-8");
  EXPECT_THAT(Error(R"({"prompt":"\ud800","completion":"a"})"), HasSubstr("is no JSON: "));
}

TEST(Conversation, RefusesMessages) {
  EXPECT_EQ(Error(Around("\"a\"")), "messages[1]: found \"a\", expected an object");
  EXPECT_EQ(Error(Around(R"({"role":"assistant"})")),
            "messages[1].content: found nothing, expected a string");
  EXPECT_EQ(Error(Around(R"({"role":"assistant","content":null})")),
            "messages[1].content: found nothing, expected a string");
  EXPECT_EQ(Error(Around(R"({"role":"assistant","content":[{"type":"text"}]})")),
            "messages[1].content: found [{\"type\":\"text\"}], expected a string");
  EXPECT_EQ(Error(Around(R"({"role":"assistant","content":""})")), "messages[1].content: is empty");
  EXPECT_EQ(Error(Around(R"({"role":"assistant","content":" \n\u3000"})")),
            "messages[1].content: is white space alone");
  EXPECT_EQ(Error(Around(R"({"role":"assistant","content":"<think>r</think>\n "})")),
            "messages[1].content: is empty behind </think>");
  EXPECT_EQ(Error(Around(R"({"role":"bot","content":"a"})")),
            "messages[1].role: found \"bot\", expected system, user or assistant");
  EXPECT_EQ(Error(Around(R"({"content":"a"})")),
            "messages[1].role: found nothing, expected a string");
  EXPECT_EQ(Error(Around(R"({"role":3,"content":"a"})")),
            "messages[1].role: found 3, expected a string");
  EXPECT_EQ(Error(Around(R"({"role":"assistant","contents":"a","content":"b"})")),
            "messages[1]: has the key \"contents\", allowed are role, content, reasoning_content");
  EXPECT_EQ(Error(Around(R"({"role":"assistant","content":"b","reasoning_content":["r"]})")),
            "messages[1].reasoning_content: found [\"r\"], expected a string");
  EXPECT_EQ(Error(Around(R"({"role":"user","content":"b","reasoning_content":"r"})")),
            "messages[1].reasoning_content: only the assistant has reasoning");
  EXPECT_EQ(Error(Around(
                R"({"role":"assistant","content":"<think>r</think>b","reasoning_content":"r"})")),
            "messages[1].content: begins with <think>, and there is reasoning_content, too");
  EXPECT_EQ(Error(R"({"conversations":[{"role":"user","value":"b"}]})"),
            "conversations[0]: has the key \"role\", allowed are from, value");
  EXPECT_EQ(Error(R"({"conversations":[{"from":"user","value":"b"}]})"),
            "conversations[0].from: found \"user\", expected system, human or gpt");
}

TEST(Conversation, RefusesToolsAndOrders) {
  EXPECT_EQ(Error(R"({"messages":[],"tools":[{"name":"f"}]})"),
            "tools: tool calls are not supported");
  EXPECT_EQ(Error(Around(R"({"role":"assistant","content":"a","tool_calls":[{"id":1}]})")),
            "messages[1].tool_calls: tool calls are not supported");
  EXPECT_EQ(Error(Around(R"({"role":"tool","content":"a"})")),
            "messages[1].role: found \"tool\", expected system, user or assistant; tool calls are "
            "not supported");
  EXPECT_EQ(Error(Around(R"({"role":"system","content":"a"})")),
            "messages[1]: a system message must be the first");
  EXPECT_EQ(Error(Around(R"({"role":"user","content":"a"})")),
            "messages: holds 2 messages, none of them the assistant's");
  EXPECT_EQ(Error(R"({"conversations":[]})"),
            "conversations: holds 0 messages, none of them the assistant's");
}

TEST(Conversation, LargeLines) {
  const std::string text(5'000'000, 'q');
  EXPECT_EQ(Parse(R"({"prompt":")" + text + R"(","completion":")" + text + "\"}"),
            (std::vector{User(text), Answer(text)}));
}

TEST(Conversation, CanonicalTextTellsConversationsApart) {
  const auto canonical = [](std::vector<ChatMessage> messages) {
    return Conversation{std::move(messages)}.Canonical();
  };
  EXPECT_EQ(
      canonical(Parse(R"({"prompt":"q","completion":"<think>r</think>a"})")),
      canonical(Parse(Around(R"({"content":"a", "reasoning_content":"r", "role":"assistant"})"))));
  EXPECT_NE(canonical({User("q"), Answer("a", "r")}), canonical({User("q"), Answer("ra")}));
  EXPECT_NE(canonical({User("q"), Answer("a")}), canonical({System("q"), Answer("a")}));
  EXPECT_NE(canonical({User("q\nassistant 0 1\na"), Answer("b")}),
            canonical({User("q"), Answer("a"), Answer("b")}));
}

}  // namespace
}  // namespace lacuna
