// Exact match of answers after a chain of thought, at one or more limits of generated tokens.
//
// A problem is answered if the model ended its turn within the limit; the answer is the text behind
// the last "</think>", white space around it left out, and CheckAnswer (data/synth/answer_check.h)
// says whether it is right. A turn that did not end or has no "</think>" is wrong.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"
#include "nn/language_model.h"
#include "nn/sampling.h"
#include "recipes/evaluation/problem_file.h"

namespace lacuna {

struct AnswerOptions {
  // Tokens a model may generate. The answers at smaller limits are those of the largest one, cut.
  std::vector<int64_t> limits = {256};
  std::string chat = "chatml";  // template of the prompts, recipes/evaluation/chat_prompt.h
  SamplingOptions sampling = {.temperature = 0, .top_p = 1, .seed = 1};
  int64_t batch = 32;  // sequences generated at a time; the answers do not depend on it

  // A ConfigError that names the option.
  absl::Status Validate() const;
};

// One problem at one limit.
struct Attempt {
  bool finished = false;
  int64_t tokens = 0;  // generated, up to the limit
  std::string answer;  // "" where there is none
  bool correct = false;
  std::string why;  // not
};

struct AnsweredProblem {
  FileProblem problem;
  std::string text;               // all that was generated
  std::vector<Attempt> attempts;  // by limit
};

// What behind "</think>" is the answer; empty without "</think>".
std::string AnswerOf(const std::string& text);

// The attempt of the first `limit` of the generated tokens, the one that ends the turn among them.
absl::StatusOr<Attempt> Grade(const FileProblem& problem, const std::vector<int32_t>& generated,
                              const std::vector<int32_t>& stop_ids, const Tokenizer& tokenizer,
                              int64_t limit);

// `progress`, if given, is called with problems done and tokens generated so far.
absl::StatusOr<std::vector<AnsweredProblem>> AnswerProblems(
    LanguageModel& model, const Tokenizer& tokenizer, const std::vector<FileProblem>& problems,
    const AnswerOptions& options, const std::function<void(int64_t, int64_t)>& progress = {});

// Results of one task, level and limit.
struct AnswerScore {
  TaskLevel of;
  int64_t limit = 0;
  int64_t problems = 0, correct = 0, finished = 0, tokens = 0;
  int64_t constant_correct = 0;  // what the most frequent answer would have got
};

// `constant`: an answer for each task and level (MostFrequentAnswers).
absl::StatusOr<std::vector<AnswerScore>> ScoreAnswers(
    const std::vector<AnsweredProblem>& answered, const std::vector<int64_t>& limits,
    const std::map<TaskLevel, std::string>& constant);

// A table for people; `constant_from` says where the most frequent answers are from.
std::string AnswersText(const std::vector<AnswerScore>& scores, const std::string& constant_from);
nlohmann::ordered_json AnswersJson(const std::vector<AnswerScore>& scores,
                                   const AnswerOptions& options, const std::string& constant_from);
// One JSON line for each problem.
std::string AnswerLines(const std::vector<AnsweredProblem>& answered,
                        const std::vector<int64_t>& limits);

}  // namespace lacuna
