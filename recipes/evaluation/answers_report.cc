// How recipes/evaluation/answers.h's results are shown.
#include <fmt/format.h>

#include <algorithm>

#include "recipes/evaluation/answers.h"
#include "recipes/evaluation/report.h"
#include "recipes/trainer/progress.h"

namespace lacuna {

std::string AnswersText(const std::vector<AnswerScore>& scores, const std::string& constant_from) {
  std::string text = fmt::format(
      "{:<14}  {:>5}  {:>7}  {:>8}  {:>8}  {:>17}  {:>8}  {:>8}  {:>10}\n", "task", "level",
      "limit", "problems", "right", "95 % interval", "finished", "tokens", "constant");
  for (const AnswerScore& score : scores) {
    const auto n = static_cast<double>(score.problems);
    const Interval interval = WilsonInterval(score.correct, score.problems);
    text += fmt::format("{:<14}  {:>5}  {:>7}  {:>8}  {:>8}  {:>17}  {:>8}  {:>8.1f}  {:>10}\n",
                        score.of.first, score.of.second, FormatCount(score.limit),
                        FormatCount(score.problems), Percent(static_cast<double>(score.correct), n),
                        fmt::format("{} - {}", Percent(interval.low, 1), Percent(interval.high, 1)),
                        Percent(static_cast<double>(score.finished), n),
                        static_cast<double>(score.tokens) / n,
                        Percent(static_cast<double>(score.constant_correct), n));
  }
  return text + fmt::format(
                    "\nright: the turn ended within the limit with a right answer behind </think>; "
                    "tokens: "
                    "mean, up to the limit\nconstant: always the most frequent answer of the task "
                    "and level "
                    "in {}\n",
                    constant_from);
}

nlohmann::ordered_json AnswersJson(const std::vector<AnswerScore>& scores,
                                   const AnswerOptions& options, const std::string& constant_from) {
  nlohmann::ordered_json json = {{"limits", options.limits},
                                 {"chat", options.chat},
                                 {"temperature", options.sampling.temperature},
                                 {"top_p", options.sampling.top_p},
                                 {"seed", options.sampling.seed},
                                 {"constant_from", constant_from}};
  for (const AnswerScore& score : scores) {
    const auto n = static_cast<double>(score.problems);
    const Interval interval = WilsonInterval(score.correct, score.problems);
    json["scores"].push_back({{"task", score.of.first},
                              {"level", score.of.second},
                              {"limit", score.limit},
                              {"problems", score.problems},
                              {"correct", score.correct},
                              {"accuracy", static_cast<double>(score.correct) / n},
                              {"interval", {interval.low, interval.high}},
                              {"finished", score.finished},
                              {"mean_tokens", static_cast<double>(score.tokens) / n},
                              {"constant_correct", score.constant_correct}});
  }
  return json;
}

std::string AnswerLines(const std::vector<AnsweredProblem>& answered,
                        const std::vector<int64_t>& limits) {
  using nlohmann::ordered_json;
  std::string lines;
  for (const AnsweredProblem& one : answered) {
    ordered_json attempts = ordered_json::array();
    for (size_t i = 0; i < limits.size(); ++i) {
      const Attempt& attempt = one.attempts[i];
      attempts.push_back({{"limit", limits[i]},
                          {"correct", attempt.correct},
                          {"finished", attempt.finished},
                          {"tokens", attempt.tokens},
                          {"answer", attempt.answer}});
      if (!attempt.correct) attempts.back()["why"] = attempt.why;
    }
    const ordered_json line = {{"task", one.problem.task}, {"level", one.problem.level},
                               {"user", one.problem.user}, {"right_answer", one.problem.answer},
                               {"text", one.text},         {"attempts", attempts}};
    // What a model generates may end inside a character.
    lines += line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  }
  return lines;
}

}  // namespace lacuna
