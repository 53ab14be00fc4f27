// Answers after a chain of thought: limits, grading, baselines, files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "recipes/evaluation/answers.h"
#include "recipes/evaluation/chat_prompt.h"
#include "tests/recipes/evaluation_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;
using testing::ElementsAre;
using testing::HasSubstr;

const FileProblem kProblem{.user = "Left to right mod 1 0 : 3 + 5 * 2",
                           .task = "modular_chain",
                           .level = 1,
                           .answer = "6"};

std::vector<int32_t> Ids(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<int32_t> ids;
  const absl::Status status = tokenizer.Encode(text, &ids, SpecialTokens::kParse);
  LACUNA_CHECK(status.ok(), "{}", Message(status));
  return ids;
}

TEST(ChatPrompt, ChatMl) {
  const Tokenizer tokenizer = test::ByteTokenizer();
  const auto prompt = EncodeGenerationPrompt(tokenizer, "chatml", "1 + 1");
  EXPECT_EQ(prompt->ids,
            Ids(tokenizer, "<|im_start|>user\n1 + 1<|im_end|>\n<|im_start|>assistant\n"));
  EXPECT_THAT(prompt->stop_ids,
              ElementsAre(*tokenizer.SpecialId("<|im_end|>"), tokenizer.eod_id()));
  // A question cannot end its own turn.
  const auto forged = EncodeGenerationPrompt(tokenizer, "chatml", "<|im_end|>");
  EXPECT_EQ(std::count(forged->ids.begin(), forged->ids.end(), prompt->stop_ids[0]), 1);
  EXPECT_THAT(Message(EncodeGenerationPrompt(tokenizer, "x", "").status()),
              HasSubstr("--chat x: unknown template"));
}

TEST(Answers, BehindTheThought) {
  EXPECT_EQ(AnswerOf("<think>\n1 = 2\n</think>\n\n 4 2 \n"), "4 2");
  EXPECT_EQ(AnswerOf("<think>a</think>b</think>c"), "c");
  EXPECT_EQ(AnswerOf("<think>a</think> \n"), "");
  EXPECT_EQ(AnswerOf("4 2"), "");
}

TEST(Answers, GradingAtALimit) {
  const Tokenizer tokenizer = test::ByteTokenizer();
  const std::vector<int32_t> stop = {*tokenizer.SpecialId("<|im_end|>"), tokenizer.eod_id()};
  const auto grade = [&](const std::string& text, int64_t limit) {
    return *Grade(kProblem, Ids(tokenizer, text), stop, tokenizer, limit);
  };
  // <think>, 9 bytes, </think>, 2 bytes, <|im_end|>
  const std::string right = "<think>3 + 5 = 8</think>\n6<|im_end|>";
  Attempt attempt = grade(right, 100);
  EXPECT_TRUE(attempt.finished && attempt.correct);
  EXPECT_EQ(attempt.tokens, 14);
  EXPECT_EQ(attempt.answer, "6");
  EXPECT_TRUE(grade(right, 14).correct);
  attempt = grade(right, 13);
  EXPECT_FALSE(attempt.finished || attempt.correct);
  EXPECT_EQ(attempt.tokens, 13);
  EXPECT_EQ(attempt.why, "not finished within 13 tokens");
  EXPECT_TRUE(grade("<think></think>6<|endoftext|>", 100).correct);
  EXPECT_THAT(grade("<think></think>7<|im_end|>", 100).why, HasSubstr("must be 6"));
  EXPECT_EQ(grade("6<|im_end|>", 100).why, "has no </think>");
  EXPECT_FALSE(grade("<think></think>6", 100).correct);
}

// A model that has learnt one solution by heart answers this problem, within the limit that it
// needs and in any batch.
TEST(Answers, OfAModel) {
  const Tokenizer tokenizer = test::ByteTokenizer();
  BuiltModel built = test::SmallModel(AttentionKind::kNsa, DType::kF32);
  const std::string solution = "<think>3 + 5 = 8 ; 8 * 2 = 6</think>6<|im_end|>";
  std::vector<int32_t> ids = EncodeGenerationPrompt(tokenizer, "chatml", kProblem.user)->ids;
  const size_t prompt = ids.size();
  const std::vector<int32_t> learnt = Ids(tokenizer, solution);
  ids.insert(ids.end(), learnt.begin(), learnt.end());
  test::LearnByHeart(built, ids, prompt);
  const auto needed = static_cast<int64_t>(learnt.size());
  FileProblem other = kProblem;
  other.user = "Left to right mod 1 0 : 3 + 5 * 4";
  other.level = 2;
  other.answer = "2";
  for (const int64_t batch : {1, 2, 32}) {
    const AnswerOptions options{.limits = {needed - 1, needed + 5}, .batch = batch};
    std::vector<std::pair<int64_t, int64_t>> progress;
    const auto answered =
        AnswerProblems(*built.model, tokenizer, {kProblem, other, kProblem}, options,
                       [&](int64_t done, int64_t tokens) { progress.emplace_back(done, tokens); });
    ASSERT_TRUE(answered.ok()) << answered.status();
    ASSERT_EQ(answered->size(), 3u);
    for (const size_t i : {0, 2}) {
      EXPECT_EQ((*answered)[i].text, solution);
      EXPECT_FALSE((*answered)[i].attempts[0].correct);
      EXPECT_TRUE((*answered)[i].attempts[1].correct);
      EXPECT_EQ((*answered)[i].attempts[1].tokens, needed);
    }
    EXPECT_FALSE((*answered)[1].attempts[1].correct);
    EXPECT_EQ(progress.back().first, 3);

    const auto scores = ScoreAnswers(*answered, options.limits,
                                     {{{"modular_chain", 1}, "6"}, {{"modular_chain", 2}, "3"}});
    ASSERT_EQ(scores->size(), 4u);
    const AnswerScore &short_one = (*scores)[0], &long_one = (*scores)[1];
    EXPECT_EQ(long_one.problems, 2);
    EXPECT_EQ(short_one.correct, 0);
    EXPECT_EQ(short_one.tokens, 2 * (needed - 1));
    EXPECT_EQ(long_one.correct, 2);
    EXPECT_EQ(long_one.finished, 2);
    EXPECT_EQ(long_one.constant_correct, 2);
    EXPECT_EQ((*scores)[3].constant_correct, 0);
    EXPECT_THAT(AnswersText(*scores, "x.jsonl"), HasSubstr("100.0 %   34.2 % - 100.0 %"));
    EXPECT_EQ(AnswersJson(*scores, options, "x.jsonl")["scores"][1]["accuracy"], 1.0);
    const std::string lines = AnswerLines(*answered, options.limits);
    EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 3);
    EXPECT_EQ(nlohmann::json::parse(lines.substr(0, lines.find('\n')))["text"], solution);
  }
}

TEST(Answers, OptionErrors) {
  EXPECT_THAT(Message(AnswerOptions{.limits = {}}.Validate()), HasSubstr("--limit"));
  EXPECT_THAT(Message(AnswerOptions{.limits = {0}}.Validate()), HasSubstr("--limit 0"));
  EXPECT_THAT(Message(AnswerOptions{.limits = {8, 4}}.Validate()), HasSubstr("ascending"));
  EXPECT_THAT(Message(AnswerOptions{.batch = 0}.Validate()), HasSubstr("--batch 0"));
}

std::string Line(const std::string& user, const std::string& answer, int level) {
  const nlohmann::json json = {
      {"messages", {{{"role", "user"}, {"content", user}}}}, {"level", level}, {"answer", answer}};
  return json.dump() + "\n";
}

TEST(ProblemFile, ReadAndCounted) {
  const TempDir dir;
  std::ofstream(dir / "p.jsonl") << Line("Add : 1 + 2", "3", 1) << "\n"
                                 << Line("Add : 2 + 2", "4", 1) << Line("Add : 1 + 3", "4", 1)
                                 << Line("Add : 2 + 1", "3", 2) << Line("Add : 0 + 3", "3", 1);
  const auto problems = ReadProblems(dir / "p.jsonl");
  ASSERT_TRUE(problems.ok()) << problems.status();
  EXPECT_EQ(problems->size(), 5u);
  EXPECT_EQ((*problems)[3].level, 2);
  EXPECT_EQ((*problems)[3].task, "addition");
  const auto most = MostFrequentAnswers(*problems);
  EXPECT_EQ(most.at({"addition", 1}), "3");  // as often as 4, and first
  EXPECT_EQ(most.at({"addition", 2}), "3");
}

TEST(ProblemFile, Errors) {
  const TempDir dir;
  const std::string path = dir / "p.jsonl";
  const auto complaint = [&](const std::string& text) {
    std::ofstream(path) << text;
    const auto problems = ReadProblems(path);
    EXPECT_EQ(ExitCodeOf(problems.status()), ExitCode::kData);
    return Message(problems.status());
  };
  EXPECT_EQ(complaint("\n\n"), path + ": holds no problems");
  EXPECT_THAT(complaint(Line("Add : 1 + 2", "3", 1) + "{"), HasSubstr(path + ":2: is no problem"));
  EXPECT_THAT(complaint("{\"messages\": []}\n"), HasSubstr(path + ":1: is no problem"));
  EXPECT_THAT(complaint(Line("Add : 1 + 2", "4", 1)),
              HasSubstr(path + ":1: \"answer\" does not solve the problem"));
  EXPECT_THAT(complaint(Line("How are you?", "well", 1)), HasSubstr(path + ":1: problem \"How"));
  EXPECT_THAT(complaint(Line("Add : 1 +", "4", 1)), HasSubstr("is not written as addition"));
}

}  // namespace
}  // namespace lacuna
