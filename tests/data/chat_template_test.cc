// The rendered text and the losses of every template, written out. tests/data/chat_template_test.py
// compares the text with Jinja's.
#include "data/chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/data/chat_fixture.h"

namespace lacuna {
namespace {

using test::Answer;
using test::System;
using test::User;

constexpr ChatOptions kKeepAll = {HistoryThinking::kKeep, LossTurns::kAll};
constexpr ChatOptions kDropAll = {HistoryThinking::kDrop, LossTurns::kAll};

// Text with a loss stands between 【 and 】.
std::string Render(ChatTemplateKind kind, const std::vector<ChatMessage>& messages,
                   const ChatOptions& options = {}, bool generation_prompt = false) {
  std::string text;
  bool in_loss = false;
  for (const ChatSegment& segment :
       RenderChat(MakeChatTemplate(kind), {messages}, options, generation_prompt)) {
    if (segment.in_loss != in_loss) text += segment.in_loss ? "【" : "】";
    in_loss = segment.in_loss;
    text += segment.text;
  }
  return in_loss ? text + "】" : text;
}

const std::vector<ChatMessage> kTwoTurns = {System(" s "), User("q1\n"), Answer("a1 ", "r1\n"),
                                            User("q2"), Answer("\na2", " r2")};

TEST(ChatTemplate, Chatml) {
  EXPECT_EQ(Render(ChatTemplateKind::kChatml, {User("q"), Answer("a")}),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n【a<|im_end|>】\n");
  const std::string head = "<|im_start|>system\n s <|im_end|>\n<|im_start|>user\nq1\n<|im_end|>\n";
  const std::string last =
      "<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n"
      "【<think>\n r2\n</think>\n\na2<|im_end|>】\n";
  EXPECT_EQ(Render(ChatTemplateKind::kChatml, kTwoTurns),
            head + "<|im_start|>assistant\na1 <|im_end|>\n" + last);
  EXPECT_EQ(Render(ChatTemplateKind::kChatml, kTwoTurns, kDropAll),
            head + "<|im_start|>assistant\n【a1 <|im_end|>】\n" + last);
  EXPECT_EQ(Render(ChatTemplateKind::kChatml, kTwoTurns, kKeepAll),
            head + "<|im_start|>assistant\n【<think>\nr1\n</think>\n\na1 <|im_end|>】\n" + last);
  EXPECT_EQ(Render(ChatTemplateKind::kChatml, {User("q")}, {}, true),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, Llama3) {
  const std::string prompt =
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\ns<|eot_id|>"
      "<|start_header_id|>user<|end_header_id|>\n\nq1<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\n";
  EXPECT_EQ(Render(ChatTemplateKind::kLlama3, kTwoTurns),
            prompt +
                "a1<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nq2<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n"
                "【<think>\nr2\n</think>\n\na2<|eot_id|>】");
  EXPECT_EQ(Render(ChatTemplateKind::kLlama3, {System(" s "), User("q1\n")}, {}, true), prompt);
}

TEST(ChatTemplate, Deepseek) {
  EXPECT_EQ(Render(ChatTemplateKind::kDeepseek, kTwoTurns, kKeepAll),
            "<｜begin▁of▁sentence｜> s <｜User｜>q1\n<｜Assistant｜>"
            "【<think>\nr1\n</think>\n\na1 <｜end▁of▁sentence｜>】<｜User｜>q2<｜Assistant｜>"
            "【<think>\n r2\n</think>\n\na2<｜end▁of▁sentence｜>】");
  EXPECT_EQ(Render(ChatTemplateKind::kDeepseek, {User("q")}, {}, true),
            "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜>");
}

TEST(ChatTemplate, Glm) {
  const std::string head = "[gMASK]<sop><|system|>\n s <|user|>\nq1\n<|assistant|>";
  EXPECT_EQ(Render(ChatTemplateKind::kGlm, kTwoTurns),
            head +
                "\n<think></think>\na1<|user|>\nq2<|assistant|>"
                "【\n<think>r2</think>\na2<|endoftext|>】");
  // Tags in place of dropped reasoning have no loss; <|user|> ends the answer before it.
  EXPECT_EQ(Render(ChatTemplateKind::kGlm, kTwoTurns, kDropAll),
            head +
                "\n<think></think>\n【a1<|user|>】\nq2<|assistant|>"
                "【\n<think>r2</think>\na2<|endoftext|>】");
  // An answer that never had reasoning says so itself.
  EXPECT_EQ(Render(ChatTemplateKind::kGlm, {User("q"), Answer(" a\n")}),
            "[gMASK]<sop><|user|>\nq<|assistant|>【\n<think></think>\na<|endoftext|>】");
  EXPECT_EQ(Render(ChatTemplateKind::kGlm, {User("q")}, {}, true),
            "[gMASK]<sop><|user|>\nq<|assistant|>");
  EXPECT_EQ(Render(ChatTemplateKind::kGlm, {User("q"), Answer("a"), User("r")}, kDropAll),
            "[gMASK]<sop><|user|>\nq<|assistant|>【\n<think></think>\na<|user|>】\nr");
}

TEST(ChatTemplate, Plain) {
  EXPECT_EQ(Render(ChatTemplateKind::kPlain, kTwoTurns, kDropAll),
            "### System\ns\n\n### User\nq1\n\n### Assistant\n【a1<|endoftext|>】"
            "### User\nq2\n\n### Assistant\n【<think>\nr2\n</think>\n\na2<|endoftext|>】");
  EXPECT_EQ(MakeChatTemplate(ChatTemplateKind::kPlain, "</s>").stop, "</s>");
}

// What is last is told by the last user message: answers in a row belong together, and a
// conversation that ends with a question has no last answer.
TEST(ChatTemplate, LastTurns) {
  const ChatMessage with = Answer("a", "r");
  EXPECT_EQ(Render(ChatTemplateKind::kDeepseek, {User("q"), with, with}),
            "<｜begin▁of▁sentence｜><｜User｜>q"
            "<｜Assistant｜>【<think>\nr\n</think>\n\na<｜end▁of▁sentence｜>】"
            "<｜Assistant｜>【<think>\nr\n</think>\n\na<｜end▁of▁sentence｜>】");
  EXPECT_EQ(Render(ChatTemplateKind::kDeepseek, {User("q"), with, User("p")}),
            "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜>a<｜end▁of▁sentence｜><｜User｜>p");
  EXPECT_EQ(
      Render(ChatTemplateKind::kDeepseek, {with}),
      "<｜begin▁of▁sentence｜><｜Assistant｜>【<think>\nr\n</think>\n\na<｜end▁of▁sentence｜>】");
}

// Contents keep their line feeds, but behind reasoning.
TEST(ChatTemplate, LineFeeds) {
  const std::vector<ChatMessage> messages = {User("q"), Answer("\na", "\n r\n"), User("q")};
  EXPECT_EQ(Render(ChatTemplateKind::kDeepseek, messages),
            "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜>\na<｜end▁of▁sentence｜><｜User｜>q");
  EXPECT_EQ(
      Render(ChatTemplateKind::kDeepseek, messages, {HistoryThinking::kKeep, LossTurns::kLast}),
      "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜><think>\n r\n</think>\n\n"
      "a<｜end▁of▁sentence｜><｜User｜>q");
}

TEST(ChatTemplate, SegmentsKnowWhereTheyAreFrom) {
  const std::vector<ChatSegment> segments =
      RenderChat(MakeChatTemplate(ChatTemplateKind::kLlama3), {{User("q"), Answer("a")}}, {});
  EXPECT_THAT(segments,
              testing::ElementsAre(
                  ChatSegment{"<|begin_of_text|>", true, false, -1},
                  ChatSegment{"<|start_header_id|>user<|end_header_id|>\n\n", true, false, 0},
                  ChatSegment{"q", false, false, 0}, ChatSegment{"<|eot_id|>", true, false, 0},
                  ChatSegment{"<|start_header_id|>assistant<|end_header_id|>\n\n", true, false, 1},
                  ChatSegment{"a", false, true, 1}, ChatSegment{"<|eot_id|>", true, true, 1}));
  EXPECT_EQ(TextOf(segments),
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\na<|eot_id|>");
}

TEST(ChatTemplate, Names) {
  EXPECT_EQ(DescribeChat(ChatTemplateKind::kGlm, {}), "glm history_thinking=drop loss_turns=last");
  EXPECT_EQ(DescribeChat(ChatTemplateKind::kChatml, kKeepAll),
            "chatml history_thinking=keep loss_turns=all");
  EXPECT_THROW(MakeChatTemplate(ChatTemplateKind::kNone), Error);
  for (const auto& [name, kind] : NamesOfChatTemplates()) EXPECT_EQ(NameOf(kind), name);
}

}  // namespace
}  // namespace lacuna
