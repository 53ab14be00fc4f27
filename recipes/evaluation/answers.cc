#include "recipes/evaluation/answers.h"

#include <algorithm>

#include "core/status.h"
#include "data/synth/answer_check.h"
#include "nn/generation.h"
#include "recipes/evaluation/chat_prompt.h"

namespace lacuna {
namespace {

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

absl::Status AnswerOptions::Validate() const {
  if (limits.empty()) return ConfigError("--limit: give at least one limit");
  for (const int64_t limit : limits) {
    if (limit < 1) return ConfigError("--limit {}: must be at least 1", limit);
  }
  if (!std::is_sorted(limits.begin(), limits.end(), std::less_equal<>()))
    return ConfigError("--limit: limits must be ascending");
  if (batch < 1) return ConfigError("--batch {}: must be at least 1", batch);
  return absl::OkStatus();
}

std::string AnswerOf(const std::string& text) {
  constexpr std::string_view kEnd = "</think>", kSpace = " \t\r\n";
  const size_t end = text.rfind(kEnd);
  if (end == std::string::npos) return "";
  const size_t first = text.find_first_not_of(kSpace, end + kEnd.size());
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

absl::StatusOr<Attempt> Grade(const FileProblem& problem, const std::vector<int32_t>& generated,
                              const std::vector<int32_t>& stop_ids, const Tokenizer& tokenizer,
                              int64_t limit) {
  std::vector<int32_t> ids(
      generated.begin(),
      generated.begin() + std::min(limit, static_cast<int64_t>(generated.size())));
  Attempt attempt{.tokens = static_cast<int64_t>(ids.size()), .answer = "", .why = ""};
  attempt.finished = !ids.empty() && Contains(stop_ids, ids.back());
  if (attempt.finished) ids.pop_back();
  const std::string text = tokenizer.Decode(ids);
  if (!attempt.finished) {
    attempt.why = fmt::format("not finished within {} tokens", limit);
  } else if (text.find("</think>") == std::string::npos) {
    attempt.why = "has no </think>";
  } else {
    attempt.answer = AnswerOf(text);
    LACUNA_ASSIGN_OR_RETURN(const CheckVerdict verdict, CheckAnswer(problem.user, attempt.answer));
    attempt.correct = verdict.correct;
    attempt.why = verdict.why;
  }
  return attempt;
}

absl::StatusOr<std::vector<AnsweredProblem>> AnswerProblems(
    LanguageModel& model, const Tokenizer& tokenizer, const std::vector<FileProblem>& problems,
    const AnswerOptions& options, const std::function<void(int64_t, int64_t)>& progress) {
  LACUNA_RETURN_IF_ERROR(options.Validate());
  GenerationOptions generation{.max_tokens = options.limits.back(),
                               .stop_ids = {},
                               .sampling = options.sampling,
                               .vocabulary_limit = tokenizer.vocab_size(),
                               .batch = options.batch};
  std::vector<std::vector<int32_t>> prompts;
  for (const FileProblem& problem : problems) {
    LACUNA_ASSIGN_OR_RETURN(GenerationPrompt prompt,
                            EncodeGenerationPrompt(tokenizer, options.chat, problem.user));
    prompts.push_back(std::move(prompt.ids));
    generation.stop_ids = std::move(prompt.stop_ids);
  }
  int64_t done = 0, tokens = 0;
  std::vector<int64_t> length(problems.size(), 0);
  const auto on_token = [&](int64_t sequence, int32_t token) {
    ++tokens;
    const int64_t n = ++length[static_cast<size_t>(sequence)];
    if (n < generation.max_tokens && !Contains(generation.stop_ids, token)) return;
    ++done;
    if (progress) progress(done, tokens);
  };
  const auto generated = Generate(model, prompts, generation, on_token);
  std::vector<AnsweredProblem> answered;
  for (size_t i = 0; i < problems.size(); ++i) {
    answered.push_back(
        {.problem = problems[i], .text = tokenizer.Decode(generated[i]), .attempts = {}});
    for (const int64_t limit : options.limits) {
      LACUNA_ASSIGN_OR_RETURN(
          Attempt attempt, Grade(problems[i], generated[i], generation.stop_ids, tokenizer, limit));
      answered.back().attempts.push_back(std::move(attempt));
    }
  }
  return answered;
}

absl::StatusOr<std::vector<AnswerScore>> ScoreAnswers(
    const std::vector<AnsweredProblem>& answered, const std::vector<int64_t>& limits,
    const std::map<TaskLevel, std::string>& constant) {
  std::map<std::pair<TaskLevel, size_t>, AnswerScore> scores;
  for (const AnsweredProblem& one : answered) {
    const TaskLevel key{one.problem.task, one.problem.level};
    bool constant_correct = false;
    if (const auto found = constant.find(key); found != constant.end()) {
      LACUNA_ASSIGN_OR_RETURN(const CheckVerdict verdict,
                              CheckAnswer(one.problem.user, found->second));
      constant_correct = verdict.correct;
    }
    for (size_t i = 0; i < limits.size(); ++i) {
      AnswerScore& score = scores[{key, i}];
      score.of = key;
      score.limit = limits[i];
      score.problems += 1;
      score.correct += one.attempts[i].correct;
      score.finished += one.attempts[i].finished;
      score.tokens += one.attempts[i].tokens;
      score.constant_correct += constant_correct;
    }
  }
  std::vector<AnswerScore> list;
  for (const auto& [key, score] : scores) list.push_back(score);
  return list;
}

}  // namespace lacuna
