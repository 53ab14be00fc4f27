// Whether answers and written steps of the problems of data/synth/problem.h are right.
//
// Everything is worked out from the problem's text by other means than those of the writer: sums
// and products in limbs of nine digits, a chain as one affine map composed from its end, distances
// by relaxing edges, recalled numbers from a map. So a defect of the writer shows, and a model's answers are graded without
// trusting a file's "answer".
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lacuna {

struct CheckVerdict {
  bool correct = false;
  std::string why;  // it is not: one line
};

// The name of the task that `user` is a problem of; a DataError where it is none.
absl::StatusOr<std::string> TaskOfProblem(std::string_view user);

// Whether `answer` solves the problem. White space does not count, anything else does: digits only
// and no leading zeros for a number; for a path the nodes from start to goal, and any path that is
// as short as possible is right. A DataError where `user` is no problem of a known task, or one
// that cannot be read.
absl::StatusOr<CheckVerdict> CheckAnswer(std::string_view user, std::string_view answer);

// Whether `reasoning` solves the problem step by step in the task's form, every step and the result
// right. Errors as for CheckAnswer.
absl::StatusOr<CheckVerdict> CheckTrace(std::string_view user, std::string_view reasoning);

}  // namespace lacuna
