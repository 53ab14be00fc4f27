#include "recipes/evaluation/problem_file.h"

#include <nlohmann/json.hpp>

#include "core/io/file.h"
#include "core/status.h"
#include "data/synth/answer_check.h"

namespace lacuna {
namespace {

constexpr int64_t kMaxBytes = int64_t{4} << 30;

absl::StatusOr<FileProblem> Parse(const std::string& line, const std::string& where) {
  FileProblem problem;
  try {
    const nlohmann::json json = nlohmann::json::parse(line);
    const nlohmann::json& first = json.at("messages").at(0);
    if (first.at("role") != "user")
      return DataError("{}: the first message is of role {}, must be \"user\"", where,
                       first.at("role").dump());
    first.at("content").get_to(problem.user);
    json.at("answer").get_to(problem.answer);
    problem.level = json.value("level", int64_t{0});
  } catch (const nlohmann::json::exception& error) {
    return DataError("{}: is no problem: {}", where, error.what());
  }
  const auto task = TaskOfProblem(problem.user);
  if (!task.ok()) return DataError("{}: {}", where, Message(task.status()));
  problem.task = *task;
  const auto verdict = CheckAnswer(problem.user, problem.answer);
  if (!verdict.ok()) return DataError("{}: {}", where, Message(verdict.status()));
  if (!verdict->correct)
    return DataError("{}: \"answer\" does not solve the problem: {}", where, verdict->why);
  return problem;
}

}  // namespace

absl::StatusOr<std::vector<FileProblem>> ReadProblems(const std::string& path) {
  LACUNA_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxBytes, ExitCode::kData));
  std::vector<FileProblem> problems;
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    LACUNA_ASSIGN_OR_RETURN(FileProblem problem, Parse(line, fmt::format("{}:{}", path, number)));
    problems.push_back(std::move(problem));
  }
  if (problems.empty()) return DataError("{}: holds no problems", path);
  return problems;
}

std::map<TaskLevel, std::string> MostFrequentAnswers(const std::vector<FileProblem>& problems) {
  std::map<TaskLevel, std::map<std::string, int64_t>> counts;
  for (const FileProblem& problem : problems)
    ++counts[{problem.task, problem.level}][problem.answer];
  std::map<TaskLevel, std::string> most;
  std::map<TaskLevel, int64_t> count;
  for (const FileProblem& problem : problems) {
    const TaskLevel key{problem.task, problem.level};
    const int64_t n = counts[key][problem.answer];
    if (n <= count[key]) continue;
    count[key] = n;
    most[key] = problem.answer;
  }
  return most;
}

}  // namespace lacuna
