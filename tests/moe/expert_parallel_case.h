// A layer whose experts are spread over ranks, and the same layer on one rank: the cases that every
// backend has to get right.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "distributed/communicator.h"
#include "tests/moe/moe_fixture.h"

namespace lacuna::test {

inline constexpr int64_t kExpertParallelWidth = 16, kExpertParallelExperts = 8;

struct ExpertParallelCase {
  const char* name;
  MoeConfig config;
  std::vector<int64_t> (*rows)(int ranks);  // of each rank
  int64_t favoured = -1;                    // around whose expert all tokens choose theirs
  int64_t chunks = 1;                       // in which tokens travel

  friend void PrintTo(const ExpertParallelCase& c, std::ostream* os) { *os << c.name; }
};
std::vector<ExpertParallelCase> ExpertParallelCases();

// The same problem for all ranks, on the CPU, and each one's part of it.
struct ExpertParallelProblem {
  ExpertParallelProblem(const ExpertParallelCase& c, DType dtype, const Communicator& comm);
  int64_t begin() const;  // of this rank's rows
  Tensor Mine(const Tensor& all) const { return all.Slice(begin(), begin() + rows[rank]); }
  void ShiftBias(MoeFixture& f) const;

  ExpertParallelCase c;
  DType dtype;
  std::vector<int64_t> rows;
  size_t rank;
  Tensor x, dy;
};

// A parameter's gradient from what the ranks have of it, parts and summands: the same on every rank,
// on the CPU.
Tensor TotalGradient(Communicator& comm, MoeFixture& f, const std::string& name);

// Output and all gradients equal those of one rank to 1e-12 (f64), or the naive reference within the
// error that it has in the same type.
void CheckAgainstOneRank(Communicator& comm, const ExpertParallelCase& c, DType dtype,
                         Device device = kCpu);

}  // namespace lacuna::test
