// Problems with written-out solutions: that they are right, that what is wrong is found out, and how
// the files are split.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/io/file.h"
#include "core/parallel.h"
#include "data/synth/answer_check.h"
#include "data/synth/decimal.h"
#include "data/synth/problem_set.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;
using testing::HasSubstr;

CheckVerdict Answer(const std::string& user, const std::string& answer) {
  auto verdict = CheckAnswer(user, answer);
  LACUNA_CHECK(verdict.ok(), "{}", Message(verdict.status()));
  return *std::move(verdict);
}

CheckVerdict Trace(const std::string& user, const std::string& reasoning) {
  auto verdict = CheckTrace(user, reasoning);
  LACUNA_CHECK(verdict.ok(), "{}", Message(verdict.status()));
  return *std::move(verdict);
}

TEST(Synth, EveryTaskAndLevelIsRight) {
  for (const SynthTask& task : SynthTasks()) {
    size_t last = 0;
    for (int level = 1; level <= static_cast<int>(task.levels.size()); ++level) {
      for (uint64_t k = 0; k < (level < 7 ? 20u : 2u); ++k) {
        RandomStream random(5, k);
        const SynthProblem problem = task.draw(level, random).solve();
        ASSERT_EQ(*TaskOfProblem(problem.user), task.name);
        const CheckVerdict answer = Answer(problem.user, problem.answer),
                           trace = Trace(problem.user, problem.reasoning);
        ASSERT_TRUE(answer.correct) << answer.why;
        ASSERT_TRUE(trace.correct) << problem.user << ": " << trace.why;
        last = problem.user.size() + problem.reasoning.size();
      }
    }
    EXPECT_GT(static_cast<double>(last) * task.tokens_per_character, 20000) << task.name;
  }
}

// The examples of data/synth/problem.h.
TEST(Synth, KnownSolutions) {
  const std::vector<std::array<std::string, 3>> examples = {
      {"Left to right mod 1 0 : 3 + 5 * 2 - 4", "3 + 5 = 8 ; 8 * 2 = 6 ; 6 - 4 = 2", "2"},
      {"Left to right mod 9 7 : 9 0 * 8 8 - 9 9",
       "9 0 * 8 8 = 7 9 2 0 = 6 3 ; 6 3 - 9 9 = - 3 6 = 6 1", "6 1"},
      {"Add : 4 7 + 8 5",
       "0 + 7 = 7 , 7 + 5 = 1 2 ; write 2 carry 1\n1 + 4 = 5 , 5 + 8 = 1 3 ; write 3 carry "
       "1\nsum 1 3 2",
       "1 3 2"},
      {"Multiply : 4 7 * 2 5",
       "5 * 7 + 0 = 3 5 , 5 * 4 + 3 = 2 3 ; row 2 3 5\n2 * 7 + 0 = 1 4 , 2 * 4 + 1 = 9 ; row 9 "
       "4\n3 + 4 + 0 = 7 , 2 + 9 + 0 = 1 1 ; total 1 1 7 5\nproduct 1 1 7 5",
       "1 1 7 5"},
      {"Shortest path from A to D : B > D , A > C , A > B , C > A",
       "A > C B new C B\nC > A new\nB > D new D\npath D < B < A", "A B D"},
      {"The secret number of Oslo is 58212.\nThe secret number of Kalu is 10733.\nThe secret "
       "number "
       "of Lima is 94065.\nWhat are the secret numbers of Lima, Oslo?",
       "The secret number of Lima is 94065.\nThe secret number of Oslo is 58212.", "58212"}};
  for (const auto& [user, reasoning, answer] : examples) {
    EXPECT_TRUE(Answer(user, answer).correct) << Answer(user, answer).why;
    EXPECT_TRUE(Trace(user, reasoning).correct) << Trace(user, reasoning).why;
  }
  EXPECT_TRUE(Answer("Add : 4 7 + 8 5", " 132\n").correct);
}

// Every word that is changed, left out or doubled anywhere in the steps is found out.
TEST(Synth, EveryWrongStepIsFound) {
  for (const SynthTask& task : SynthTasks()) {
    for (const int level : {1, 2, 3, 6}) {
      RandomStream random(9, static_cast<uint64_t>(level));
      const SynthProblem problem = task.draw(level, random).solve();
      const std::string& text = problem.reasoning;
      for (size_t at = 0; at < text.size(); ++at) {
        if (text[at] == ' ') continue;
        std::string changed = text, shorter = text, longer = text;
        changed[at] = text[at] == '7' ? '8' : text[at] == 'A' ? 'B' : text[at] < 'A' ? '7' : 'A';
        shorter.erase(at, 1);
        longer.insert(at, text[at] == '\n' ? "\n" : std::string(1, text[at]) + " ");
        for (const std::string& wrong : {changed, shorter, longer})
          ASSERT_FALSE(Trace(problem.user, wrong).correct) << problem.user << "\n" << wrong;
      }
    }
  }
  const CheckVerdict verdict =
      Trace("Left to right mod 1 0 : 3 + 5 * 2 - 4", "3 + 5 = 8 ; 8 * 2 = 7 ; 7 - 4 = 3");
  EXPECT_FALSE(verdict.correct);
  EXPECT_EQ(verdict.why, "step 2: \"8 * 2 = 7\" (word 7): the result must be 6");
}

TEST(Synth, WrongAnswersAreRefused) {
  for (const SynthTask& task : SynthTasks()) {
    for (uint64_t k = 0; k < 20; ++k) {
      RandomStream random(3, k);
      const SynthProblem problem = task.draw(1 + static_cast<int>(k % 4), random).solve();
      for (size_t at = 0; at < problem.answer.size(); at += 2) {
        std::string changed = problem.answer;
        changed[at] = changed[at] == '9' ? '0' : changed[at] < '9' ? '9' : 'z';
        EXPECT_FALSE(Answer(problem.user, changed).correct) << problem.user << " " << changed;
      }
      for (const std::string& wrong :
           {std::string(), problem.answer + " 1", "0 " + problem.answer, std::string("x")})
        EXPECT_FALSE(Answer(problem.user, wrong).correct) << problem.user << " " << wrong;
    }
  }
}

TEST(Synth, AnyShortestPathCounts) {
  const std::string graph =
      "Shortest path from A to D : A > B , A > C , B > D , C > D , B > C , D > A";
  EXPECT_TRUE(Answer(graph, "A B D").correct);
  EXPECT_TRUE(Answer(graph, "A C D").correct);
  EXPECT_EQ(Answer(graph, "A B C D").why, "the path has 3 edges, the shortest has 2");
  EXPECT_EQ(Answer(graph, "A D").why, "there is no edge A > D");
  EXPECT_THAT(Answer(graph, "A B").why, HasSubstr("must be from A to D"));
}

TEST(Synth, RecallSaysWhichNumberIsWrong) {
  const std::string facts =
      "The secret number of Oslo is 58212.\nThe secret number of Lima is 04065.\nWhat are the "
      "secret numbers of Oslo, Lima?";
  const std::string first = "The secret number of Oslo is 58212.";
  EXPECT_TRUE(Answer(facts, "04065").correct);
  EXPECT_FALSE(Answer(facts, "4065").correct);  // digits as they are written
  EXPECT_EQ(Trace(facts, first + "\nThe secret number of Lima is 58212.").why,
            "line 2: \"\\n The secret number of\" (word 8): the number of Lima is 04065.");
  EXPECT_THAT(Trace(facts, first + "\n" + first).why, HasSubstr("must be the number of Lima"));
  EXPECT_THAT(Trace(facts, first).why, HasSubstr("must be a new line"));
}

// The facts asked for may stand anywhere: no place is worth learning.
TEST(Synth, RecallAsksEverywhere) {
  std::array<int, 4> quarters{};
  for (uint64_t k = 0; k < 100; ++k) {
    RandomStream random(2, k);
    const SynthProblem problem = RecallTask().draw(8, random).solve();
    const size_t at = problem.user.find(problem.reasoning.substr(0, problem.reasoning.find('\n')));
    ASSERT_NE(at, std::string::npos);
    ++quarters[4 * at / problem.user.size()];
  }
  for (const int count : quarters) EXPECT_GT(count, 10);
}

TEST(Synth, TextsThatAreNoProblems) {
  for (const std::string text :
       {"", "What is 3 + 5?", "Add : 3 +", "Add : 3 + x", "Multiply : 3 * 4 * 5",
        "Left to right mod 0 : 1 + 1", "Shortest path from A to B : B > A",
        "The secret number of A is 12345.",
        "The secret number of A is 12345.\nWhat are the secret numbers of A, B?",
        "The secret number of A is 12345.\nWhat are the secret numbers of A,",
        "The secret number of A is 12345.\nThe secret number of A is 1.\nWhat are the secret "
        "numbers of A?"}) {
    EXPECT_EQ(ExitCodeOf(CheckAnswer(text, "1").status()), ExitCode::kData) << text;
    EXPECT_EQ(ExitCodeOf(CheckTrace(text, "1").status()), ExitCode::kData) << text;
  }
}

TEST(Decimal, AgainstWideIntegers) {
  const auto text = [](unsigned __int128 value) {
    std::string digits;
    for (; value > 0; value /= 10)
      digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(value % 10)));
    return digits.empty() ? "0" : digits;
  };
  RandomStream random(1, 2);
  for (int i = 0; i < 1000; ++i) {
    const auto draw = [&] {
      uint64_t value = 1;
      for (int j = random.Below(5); j > 0; --j)
        value = value * 1000 + static_cast<uint64_t>(random.Below(1000));
      return value % 3 == 0 ? value / 1000 * 1000 : value;
    };
    const uint64_t a = draw(), b = draw();
    EXPECT_EQ((Decimal(std::to_string(a)) * Decimal(std::to_string(b))).ToString(),
              text(static_cast<unsigned __int128>(a) * b));
    EXPECT_EQ((Decimal(std::to_string(a)) + Decimal(std::to_string(b))).ToString(),
              text(static_cast<unsigned __int128>(a) + b));
  }
  EXPECT_EQ(Decimal("000123"), Decimal("123"));
  EXPECT_EQ((Decimal("0") * Decimal("999999999999")).ToString(), "0");
  EXPECT_EQ((Decimal("999999999999999999") + Decimal("1")).ToString(), "1000000000000000000");
}

std::vector<nlohmann::json> Lines(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

std::string Bytes(const std::string& path) {
  auto bytes = ReadFile(path, 1 << 26, ExitCode::kData);
  LACUNA_CHECK(bytes.ok(), "{}", Message(bytes.status()));
  return *std::move(bytes);
}

SynthSetOptions Small(const std::string& output, uint64_t seed = 1) {
  return {.tasks = {"modular_chain", "graph_path", "multiplication", "addition"},
          .levels = {1, 2},
          .count = 100,
          .held_out = 30,
          .seed = seed,
          .output = output};
}

TEST(SynthSet, SplitWithoutOverlap) {
  const TempDir dir;
  std::set<std::string> training, held_out;
  for (const uint64_t seed : {1, 2}) {
    ASSERT_TRUE(WriteSynthSet(Small(dir / std::to_string(seed), seed)).ok());
    const std::string folder = dir / std::to_string(seed);
    size_t lines = 0, new_lines = training.size();
    for (const auto& line : Lines(folder + "/train.jsonl")) {
      training.insert(line["messages"][0]["content"]);
      EXPECT_EQ(line["messages"][1]["content"], line["answer"]);
      EXPECT_TRUE(Answer(line["messages"][0]["content"], line["answer"]).correct);
      EXPECT_TRUE(
          Trace(line["messages"][0]["content"], line["messages"][1]["reasoning_content"]).correct);
      ++lines;
    }
    EXPECT_EQ(lines, 800u);
    if (seed == 1) {
      EXPECT_EQ(training.size(), 800u);  // no problem twice
    }
    EXPECT_GT(training.size(), new_lines + 600);  // another seed: other problems
    for (const auto& line : Lines(folder + "/heldout.jsonl"))
      held_out.insert(line["messages"][0]["content"]);
    EXPECT_GE(held_out.size(), 240u);
  }
  for (const std::string& problem : held_out) EXPECT_FALSE(training.contains(problem)) << problem;
}

TEST(SynthSet, SameBytesOnAnyNumberOfThreads) {
  const TempDir dir;
  const int threads = NumThreads();
  for (const int n : {1, 3}) {
    SetNumThreads(n);
    ASSERT_TRUE(WriteSynthSet(Small(dir / std::to_string(n))).ok());
  }
  SetNumThreads(threads);
  for (const std::string file : {"/train.jsonl", "/heldout.jsonl"})
    EXPECT_EQ(Bytes((dir / "1") + file), Bytes((dir / "3") + file));
  // The same bytes on every machine: the first problem of seed 1.
  EXPECT_THAT(
      Bytes((dir / "1") + "/train.jsonl"),
      testing::StartsWith("{\"messages\":[{\"role\":\"user\",\"content\":\"Left to right mod "
                          "1 0 : 7 - 1 + 8 + 7 + 6\"},{\"role\":\"assistant\","));
}

TEST(SynthSet, EqualUpToOrderIsTheSameProblem) {
  std::set<std::string> canonical, users;
  for (uint64_t k = 0; k < 3000; ++k) {
    RandomStream random(1, k);
    const SynthDraft draft = MultiplicationTask().draw(2, random);
    canonical.insert(draft.canonical);
    users.insert(draft.solve().user);
  }
  EXPECT_LT(canonical.size(), users.size());
}

TEST(SynthSet, SaysHowManyThereAre) {
  const TempDir dir;
  int64_t training = 0;
  for (int a = 10; a < 100; ++a) {
    for (int b = 1; b < 10; ++b)
      training += !IsHeldOut(fmt::format("Multiply : {} {} * {}", a / 10, a % 10, b));
  }
  SynthSetOptions options{.tasks = {"multiplication"},
                          .levels = {1},
                          .count = training + 1,
                          .held_out = 0,
                          .output = dir.path()};
  EXPECT_EQ(Message(WriteSynthSet(options).status()),
            fmt::format("synth: multiplication level 1: {} training problems asked for, there are "
                        "only {}",
                        training + 1, training));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  options.count = training;
  EXPECT_TRUE(WriteSynthSet(options).ok());
}

TEST(SynthSet, Errors) {
  const TempDir dir;
  const auto complaint = [&](auto change) {
    SynthSetOptions options = Small(dir.path());
    change(options);
    const auto report = WriteSynthSet(options);
    EXPECT_EQ(ExitCodeOf(report.status()), ExitCode::kConfig);
    return Message(report.status());
  };
  EXPECT_EQ(complaint([](auto& o) { o.tasks = {"division"}; }),
            "synth: task division: unknown, there are modular_chain, addition, multiplication, "
            "graph_path, recall");
  EXPECT_EQ(complaint([](auto& o) { o.levels = {11}; }),
            "synth: level 11: modular_chain has levels 1 to 10");
  EXPECT_EQ(complaint([](auto& o) {
              o.levels = {1, 1};
            }),
            "synth: modular_chain level 1 is asked for twice");
  EXPECT_THAT(complaint([](auto& o) { o.count = o.held_out = 0; }), HasSubstr("no problems"));
  EXPECT_THAT(complaint([](auto& o) { o.tasks.clear(); }), HasSubstr("give a task"));
  ASSERT_TRUE(WriteSynthSet(Small(dir.path())).ok());
  EXPECT_EQ(complaint([](auto&) {}),
            (dir / "train.jsonl") + ": exists already; --overwrite replaces it");

  EXPECT_THAT(*ParseLevels("2"), testing::ElementsAre(2));
  EXPECT_THAT(*ParseLevels("1,3,5-7"), testing::ElementsAre(1, 3, 5, 6, 7));
  for (const char* text : {"", "x", "1-", "3-1", "1,", "1;2", "1-9999999"})
    EXPECT_EQ(ExitCodeOf(ParseLevels(text).status()), ExitCode::kConfig) << text;
}

}  // namespace
}  // namespace lacuna
