// What a run reads: that conversations are in the recipe's chat template.
#include "recipes/trainer/run_inputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/io/file.h"
#include "data/prepare/prepare.h"
#include "tests/data/chat_fixture.h"
#include "tests/recipes/schema_texts.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

// Shards of text and of two chat templates.
class RunInputsTest : public testing::Test {
 protected:
  RunInputsTest() {
    EXPECT_TRUE(test::ChatTestTokenizer().Save(dir_ / "tokenizer.json").ok());
    Put("text.jsonl", R"({"text":"some words"})");
    Put("chat.jsonl", R"({"prompt":"q","completion":"a"})");
    Prepare("text", ChatTemplateKind::kNone);
    Prepare("chatml", ChatTemplateKind::kChatml);
    Prepare("glm", ChatTemplateKind::kGlm);
    auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", {}, 1);
    EXPECT_TRUE(recipe.ok()) << recipe.status();
    recipe_ = *std::move(recipe);
    recipe_.data.tokenizer = dir_ / "tokenizer.json";
    recipe_.data.sources = {Source("text"), Source("chatml")};
    recipe_.data.validation = {};
  }

  void Put(const std::string& name, const std::string& bytes) {
    ASSERT_TRUE(WriteFileDurably(dir_ / name, bytes, ExitCode::kData).ok());
  }
  void Prepare(const std::string& name, ChatTemplateKind kind) {
    PrepareOptions options;
    options.inputs = {dir_ / (kind == ChatTemplateKind::kNone ? "text.jsonl" : "chat.jsonl")};
    options.tokenizer = dir_ / "tokenizer.json";
    options.output = dir_.path();
    options.name = name;
    options.chat_template = kind;
    const auto report = lacuna::Prepare(options);
    ASSERT_TRUE(report.ok()) << report.status();
  }
  SourceConfig Source(const std::string& name) const {
    return {.name = name, .path = dir_ / (name + "_00000.h5"), .weight = 1.0};
  }
  std::string Error() {
    const auto inputs = OpenRunInputs(recipe_, false);
    if (inputs.ok()) return "no error";
    code_ = ExitCodeOf(inputs.status());
    return Message(inputs.status());
  }

  test::TempDir dir_;
  Recipe recipe_;
  ExitCode code_ = ExitCode::kOk;
};

TEST_F(RunInputsTest, ShardsInTheRecipesTemplate) {
  EXPECT_EQ(Error(), "no error");  // no template: not checked
  recipe_.data.chat_template = ChatTemplateKind::kChatml;
  EXPECT_EQ(Error(), "no error");
}

TEST_F(RunInputsTest, ShardsInAnother) {
  recipe_.data.chat_template = ChatTemplateKind::kGlm;
  EXPECT_EQ(Error(), dir_ /
                         "chatml_00000.h5: holds conversations made with chat template chatml, "
                         "the recipe's is glm");
  EXPECT_EQ(code_, ExitCode::kData);
  recipe_.data.chat_template = ChatTemplateKind::kChatml;
  recipe_.data.validation = {{.name = "held_out", .path = dir_ / "glm_00000.h5"}};
  EXPECT_EQ(Error(), dir_ /
                         "glm_00000.h5: holds conversations made with chat template glm, the "
                         "recipe's is chatml");
}

TEST_F(RunInputsTest, ATokenizerWithoutTheTemplatesTokens) {
  recipe_.data.sources = {Source("text")};
  ASSERT_TRUE(test::TrainChatTokenizer({"<|endoftext|>"}).Save(recipe_.data.tokenizer).ok());
  recipe_.data.chat_template = ChatTemplateKind::kChatml;
  EXPECT_EQ(Error(),
            "chat template chatml: the tokenizer has no added tokens <|im_start|>, <|im_end|>");
  EXPECT_EQ(code_, ExitCode::kConfig);
}

TEST_F(RunInputsTest, TheRecipesKey) {
  const auto complaint = test::Complaint(test::kValidRecipe, {"data.chat_template=vicuna"});
  EXPECT_THAT(complaint, HasSubstr("data.chat_template: expected one of none, plain, chatml, "
                                   "llama3, deepseek, glm, got"));
  const auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", {"data.chat_template=glm"}, 1);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->data.chat_template, ChatTemplateKind::kGlm);
}

}  // namespace
}  // namespace lacuna
