// What a user sees of conversations before training on them.
#include "tools/inspect/chat_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/io/file.h"
#include "core/status.h"
#include "tests/data/chat_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

class ChatViewTest : public testing::Test {
 protected:
  void Put(const std::string& lines) {
    ASSERT_TRUE(WriteFileDurably(dir_ / "a.jsonl", lines, ExitCode::kData).ok());
  }
  std::string Show(int64_t first, int64_t count,
                   ChatTemplateKind kind = ChatTemplateKind::kChatml) {
    testing::internal::CaptureStdout();
    status_ = InspectChat(dir_ / "a.jsonl", test::ChatTestTokenizer(), kind, {}, first, count);
    std::fflush(stdout);
    return testing::internal::GetCapturedStdout();
  }

  test::TempDir dir_;
  absl::Status status_;
};

TEST_F(ChatViewTest, ShowsConversationsByNumber) {
  Put(R"({"prompt":"one","completion":"a"}

{"prompt":"two","completion":"b"}
{"prompt":"three","completion":"c"}
)");
  const std::string text = Show(1, 1);
  EXPECT_TRUE(status_.ok()) << status_;
  EXPECT_THAT(text, HasSubstr(dir_ / "a.jsonl:3: 2 messages, "));
  EXPECT_THAT(text, HasSubstr(" tokens, 2 of them with a loss (chatml history_thinking=drop "
                              "loss_turns=last)\nloss tokens message       part     text\n"));
  EXPECT_THAT(text, HasSubstr("\nloss      1 1 assistant   content  b\n"
                              "loss      1 1 assistant   markup   <|im_end|>\n"));
  EXPECT_THAT(text, Not(HasSubstr("one")));
  EXPECT_THAT(text, Not(HasSubstr("three")));
  const std::string all = Show(0, 10);
  EXPECT_TRUE(status_.ok()) << status_;
  EXPECT_THAT(all, HasSubstr("\n\n--- "));
  EXPECT_THAT(all, HasSubstr("content  c\n"));
}

TEST_F(ChatViewTest, Errors) {
  Put("{\"prompt\":\"one\",\"completion\":\"a\"}\n{\"prompt\":\"two\"}\n");
  EXPECT_EQ(Show(2, 1), "");
  EXPECT_EQ(ExitCodeOf(status_), ExitCode::kConfig);
  EXPECT_THAT(Message(status_), HasSubstr("a.jsonl: holds 2 conversations, there is no number 2"));
  Show(0, 2);
  EXPECT_THAT(Message(status_), HasSubstr("a.jsonl:2: expected messages, conversations, or"));
}

}  // namespace
}  // namespace lacuna::tools
