// Files of problems with known answers: JSON lines as `lacuna synth` writes them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace lacuna {

struct FileProblem {
  std::string user;    // the question: the first message, of role "user"
  std::string task;    // as the question's text says (data/synth/answer_check.h)
  int64_t level = 0;   // 0 where the line has none
  std::string answer;  // a right one
};

// A DataError names the file, the line and what is wrong: no JSON, no such key, a problem of no
// known task, an "answer" that does not solve it. Empty lines are skipped; a file without problems
// is an error.
absl::StatusOr<std::vector<FileProblem>> ReadProblems(const std::string& path);

using TaskLevel = std::pair<std::string, int64_t>;

// The answer that most problems of each task and level have, the first of equally frequent ones in
// the file's order.
std::map<TaskLevel, std::string> MostFrequentAnswers(const std::vector<FileProblem>& problems);

}  // namespace lacuna
