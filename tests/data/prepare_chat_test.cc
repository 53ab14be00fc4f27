// Conversations to shards: documents with loss masks, what is left out, and what a model that trains
// on them is asked to predict.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/io/file.h"
#include "data/chat/chat_tokens.h"
#include "data/loader.h"
#include "data/prepare/prepare.h"
#include "data/token_shard.h"
#include "tests/data/chat_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::Answer;
using test::Ids;
using test::TempDir;
using test::User;
using testing::ElementsAre;
using testing::HasSubstr;

class PrepareChatTest : public testing::Test {
 protected:
  PrepareChatTest() {
    EXPECT_TRUE(test::ChatTestTokenizer().Save(dir_ / "tokenizer.json").ok());
    options_.inputs = {dir_ / "a.jsonl"};
    options_.tokenizer = dir_ / "tokenizer.json";
    options_.output = dir_ / "out";
    options_.chat_template = ChatTemplateKind::kChatml;
    options_.overwrite = true;
  }

  void Put(const std::string& bytes, const std::string& name = "a.jsonl") {
    ASSERT_TRUE(WriteFileDurably(dir_ / name, bytes, ExitCode::kData).ok());
  }
  PrepareReport Run() {
    auto report = Prepare(options_);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *std::move(report) : PrepareReport{};
  }
  std::string Error() {
    const auto report = Prepare(options_);
    if (report.ok()) return "no error";
    code_ = ExitCodeOf(report.status());
    std::string message = Message(report.status());
    for (size_t at; (at = message.find(dir_.path() + "/")) != std::string::npos;)
      message.erase(at, dir_.path().size() + 1);
    return message;
  }
  TokenShard Shard(const std::string& name = "train_00000.h5") const {
    auto shard = TokenShard::Open(dir_ / ("out/" + name));
    EXPECT_TRUE(shard.ok()) << shard.status();
    return *std::move(shard);
  }

  TempDir dir_;
  PrepareOptions options_;
  ExitCode code_ = ExitCode::kOk;
};

std::string Line(const std::string& question, const std::string& answer) {
  return nlohmann::json({{"prompt", question}, {"completion", answer}}).dump() + "\n";
}

TEST_F(PrepareChatTest, AConversationIsADocumentWithAMask) {
  Put(Line("Hello there", "good morning") + "\n" + Line("q", "<think>r</think>a"));
  const PrepareReport report = Run();
  const TokenShard shard = Shard();
  const auto chat =
      *ChatTokenizer::Create(test::ChatTestTokenizer(), ChatTemplateKind::kChatml, {});
  std::vector<int32_t> ids;
  std::vector<uint8_t> mask;
  std::vector<int64_t> offsets{0};
  for (const Conversation& conversation :
       {Conversation{{User("Hello there"), Answer("good morning")}},
        Conversation{{User("q"), Answer("a", "r")}}}) {
    const ChatTokens tokens = *chat.Encode(conversation, "");
    ids.insert(ids.end(), tokens.ids.begin(), tokens.ids.end());
    mask.insert(mask.end(), tokens.in_loss.begin(), tokens.in_loss.end());
    offsets.push_back(static_cast<int64_t>(ids.size()));
  }
  std::vector<int32_t> found(ids.size());
  ASSERT_EQ(shard.num_tokens(), static_cast<int64_t>(ids.size()));
  shard.Read(0, shard.num_tokens(), found.data());
  EXPECT_EQ(found, ids);
  EXPECT_TRUE(std::ranges::equal(shard.loss_mask(), mask));
  EXPECT_TRUE(std::ranges::equal(shard.document_offsets(), offsets));
  EXPECT_EQ(shard.info().chat, "chatml history_thinking=drop loss_turns=last");
  EXPECT_EQ(report.splits[0].loss_tokens, std::count(mask.begin(), mask.end(), 1));
  // Bytes of text are those of the tokens that stand for text.
  int64_t bytes = 0;
  for (const int32_t id : ids) bytes += shard.token_bytes()[static_cast<size_t>(id)];
  EXPECT_EQ(report.splits[0].bytes, bytes);
}

// The last token of the header predicts the answer's first, the answer's last one predicts the stop
// token, and nothing else is predicted.
TEST_F(PrepareChatTest, WhatIsPredicted) {
  Put(Line("Hello there", "good morning"));
  Run();
  DataConfig config;
  config.sources = {{.name = "chat", .path = dir_ / "out/train_00000.h5", .weight = 1.0}};
  config.packing = Packing::kBestFit;
  const Tokenizer& tokenizer = test::ChatTestTokenizer();
  const auto loader =
      DataLoader::Open(config, 32, 1, "sft", tokenizer.vocab_size(), tokenizer.hash(), false);
  ASSERT_TRUE(loader.ok()) << loader.status();
  const Batch batch = *(*loader)->Load({0});
  const auto* ids = batch.ids.data<int32_t>();
  const auto* targets = batch.targets.data<int32_t>();
  std::vector<std::string> predictions;
  for (int64_t i = 0; i < 32; ++i) {
    if (targets[i] < 0) continue;
    predictions.push_back(tokenizer.Decode({ids + i, 1}) + "|" +
                          tokenizer.Decode({targets + i, 1}));
    EXPECT_EQ(targets[i], ids[i + 1]);
  }
  EXPECT_THAT(predictions, ElementsAre("\n|good", "good| morning", " morning|<|im_end|>"));
  EXPECT_EQ(batch.num_target_tokens, 3);
}

TEST_F(PrepareChatTest, WhatIsLeftOut) {
  const std::string no_answer =
      R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"},)"
      R"({"role":"user","content":"q"}]})";
  Put(Line("q", "a") + no_answer + "\n" + Line("q", std::string(400, '=')) + Line("x\r\ny", "a"));
  PrepareReport report = Run();
  EXPECT_EQ(report.splits[0].documents, 3);
  EXPECT_EQ(report.no_loss_conversations, 1);
  EXPECT_EQ(report.long_conversations, 0);
  EXPECT_EQ(report.crlf_documents, 1);
  options_.max_tokens = 100;
  report = Run();
  EXPECT_EQ(report.splits[0].documents, 2);
  EXPECT_EQ(report.long_conversations, 1);
  const std::string text = ToString(report);
  EXPECT_THAT(text, HasSubstr("split             shards conversations          tokens     in the "
                              "loss   share\n"));
  EXPECT_THAT(text,
              HasSubstr("chat: chatml history_thinking=drop loss_turns=last\n"
                        "conversations: 1 of more than 100 tokens left out, 1 without a token "
                        "in the loss left out, "));
  // A conversation of exactly max_tokens stays.
  options_.max_tokens = Shard().document_offsets()[1];
  Put(Line("q", "a"));
  EXPECT_EQ(Run().splits[0].documents, 1);
  --options_.max_tokens;
  EXPECT_EQ(Error(),
            "a.jsonl: no conversation for training: 1 are longer than max_tokens, 0 have "
            "no loss");
  // With every turn in the loss the one that ends with a question has its answer.
  options_.max_tokens = 0;
  options_.chat = {HistoryThinking::kKeep, LossTurns::kAll};
  Put(no_answer);
  EXPECT_EQ(Run().splits[0].documents, 1);
  EXPECT_EQ(Shard().info().chat, "chatml history_thinking=keep loss_turns=all");
}

TEST_F(PrepareChatTest, HoldoutsKeepEqualConversationsTogether) {
  std::string lines;
  for (int i = 0; i < 300; ++i) {
    const std::string question = fmt::format("question {}", i);
    lines += Line(question, "<think>r</think>answer");
    lines += nlohmann::json(
                 {{"messages",
                   {{{"role", "user"}, {"content", question}},
                    {{"content", "answer"}, {"role", "assistant"}, {"reasoning_content", "r"}}}}})
                 .dump() +
             "\n";
  }
  Put(lines);
  options_.holdouts = {*Holdout::Parse("validation=0.2")};
  const PrepareReport report = Run();
  EXPECT_EQ(report.splits[0].documents + report.splits[1].documents, 600);
  EXPECT_NEAR(static_cast<double>(report.splits[1].documents), 120, 2 * 5 * 7);
  const TokenShard shard = Shard("validation_00000.h5");
  for (int64_t d = 0; d < shard.num_documents(); d += 2) {
    const auto offsets = shard.document_offsets().subspan(static_cast<size_t>(d), 3);
    std::vector<int32_t> first(static_cast<size_t>(offsets[1] - offsets[0])),
        second(static_cast<size_t>(offsets[2] - offsets[1]));
    shard.Read(offsets[0], offsets[1] - offsets[0], first.data());
    shard.Read(offsets[1], offsets[2] - offsets[1], second.data());
    EXPECT_EQ(first, second) << d;
  }
  EXPECT_EQ(shard.info().chat, "chatml history_thinking=drop loss_turns=last");
}

TEST_F(PrepareChatTest, ErrorsNameFileAndLine) {
  Put(Line("q", "a") + "{\"messages\":[]}\n");
  EXPECT_EQ(Error(), "a.jsonl:2: messages: holds 0 messages, none of them the assistant's");
  EXPECT_EQ(code_, ExitCode::kData);
  Put(Line("q", "a") + Line("q", "\n\na"));
  EXPECT_THAT(Error(), HasSubstr("a.jsonl:2: messages[1]: its loss begins inside a token"));
  Put(Line("q", "a") + "{\"prompt\":\"\xFF\"}\n");
  EXPECT_THAT(Error(), HasSubstr("a.jsonl:2: byte 11 (0xFF) is not UTF-8"));
  Put("text", "b.txt");
  options_.inputs = {dir_ / "b.txt"};
  EXPECT_EQ(Error(), "b.txt: conversations are read from *.jsonl and *.ndjson alone");
  ASSERT_TRUE(test::TrainChatTokenizer({"<|endoftext|>"}).Save(options_.tokenizer).ok());
  EXPECT_EQ(Error(),
            "chat template chatml: the tokenizer has no added tokens <|im_start|>, <|im_end|>");
  EXPECT_EQ(code_, ExitCode::kConfig);
}

TEST_F(PrepareChatTest, TheAttributeIsVouchedFor) {
  Put(Line("q", "a"));
  Run();
  const std::string path = dir_ / "out/train_00000.h5";
  std::string bytes = *ReadFile(path, 1 << 24, ExitCode::kData);
  const size_t at = bytes.find("loss_turns=last");
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 15, "loss_turns=lost");
  ASSERT_TRUE(WriteFileDurably(path, bytes, ExitCode::kData).ok());
  EXPECT_FALSE(TokenShard::Open(path).ok());
  // Text has no such attribute.
  options_.chat_template = ChatTemplateKind::kNone;
  Put("{\"text\":\"x\"}\n");
  Run();
  EXPECT_EQ(Shard().info().chat, "");
}

}  // namespace
}  // namespace lacuna
