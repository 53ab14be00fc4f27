#include "tests/moe/expert_parallel_case.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/compare.h"

namespace lacuna::test {
namespace {

std::vector<int64_t> Uneven(int ranks) {
  std::vector<int64_t> rows;
  for (int r = 0; r < ranks; ++r) rows.push_back(9 + 14 * r % 23);
  return rows;
}
std::vector<int64_t> NoneOnTheFirst(int ranks) {
  std::vector<int64_t> rows = Uneven(ranks);
  if (ranks > 1) rows[0] = 0;
  return rows;
}
std::vector<int64_t> AllOnTheLast(int ranks) {
  std::vector<int64_t> rows(static_cast<size_t>(ranks), 0);
  rows.back() = 37;
  return rows;
}

// Parts of a tensor put together, parts of a sum added up.
Tensor Together(Communicator& comm, const Tensor& part, const Shape& shape, int64_t first) {
  Tensor whole = Tensor::Zeros(shape, part.dtype());
  whole.View(first, part.shape()).CopyFrom(part);
  comm.AllReduceSum(whole).Wait();
  return whole;
}

double RoundTo(DType dtype, double v) {
  if (dtype == DType::kF64) return v;
  const float single = static_cast<float>(v);
  return static_cast<double>(dtype == DType::kF32 ? single : static_cast<float>(BFloat16(single)));
}

}  // namespace

std::vector<ExpertParallelCase> ExpertParallelCases() {
  const MoeConfig base{.num_experts = kExpertParallelExperts,
                       .experts_per_token = 3,
                       .expert_width = 8,
                       .num_shared = 1,
                       .bias_update_rate = 0};
  MoeConfig softmax = base, every = base, two = base;
  softmax.router = RouterKind::kSoftmax;
  softmax.num_shared = 0;
  softmax.normalize_weights = false;
  every.experts_per_token = kExpertParallelExperts;
  two.experts_per_token = 2;
  return {{"sigmoid", base, Uneven},
          {"softmax_no_shared", softmax, Uneven},
          {"every_expert", every, Uneven},
          {"rank_without_rows", base, NoneOnTheFirst},
          {"rows_on_one_rank", base, AllOnTheLast},
          {"experts_of_one_rank", two, Uneven, kExpertParallelExperts - 1},
          {"from_one_rank_to_one", two, AllOnTheLast, 0},
          {"two_chunks", base, Uneven, -1, 2},
          {"three_chunks_softmax_no_shared", softmax, Uneven, -1, 3},
          {"two_chunks_every_expert", every, Uneven, -1, 2},
          {"two_chunks_rank_without_rows", base, NoneOnTheFirst, -1, 2},
          {"three_chunks_rows_on_one_rank", base, AllOnTheLast, -1, 3},
          {"two_chunks_experts_of_one_rank", two, Uneven, kExpertParallelExperts - 1, 2},
          {"more_chunks_than_tokens", base, Uneven, -1, 11}};
}

ExpertParallelProblem::ExpertParallelProblem(const ExpertParallelCase& c, DType dtype,
                                             const Communicator& comm)
    : c(c), dtype(dtype), rows(c.rows(comm.size())), rank(static_cast<size_t>(comm.rank())) {
  const int64_t all = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  x = RandomTensor({all, kExpertParallelWidth}, dtype, 15);
  dy = RandomTensor({all, kExpertParallelWidth}, dtype, 6);
}

int64_t ExpertParallelProblem::begin() const {
  return std::accumulate(rows.begin(), rows.begin() + static_cast<int64_t>(rank), int64_t{0});
}

void ExpertParallelProblem::ShiftBias(MoeFixture& f) const {
  if (c.config.router != RouterKind::kSigmoid) return;
  std::vector<double> bias =
      RandomTensor({kExpertParallelExperts}, DType::kF64, 77, 0.3).ToDoubles();
  // As many experts as a token chooses, next to the favoured one.
  const int64_t chosen = c.config.experts_per_token,
                first = c.favoured == 0 ? 0 : kExpertParallelExperts - chosen;
  for (int64_t e = first; c.favoured >= 0 && e < first + chosen; ++e)
    bias[static_cast<size_t>(e)] += 100;
  f.Bias().CopyFrom(Tensor::FromDoubles(bias, {kExpertParallelExperts}, f.Bias().dtype()));
}

Tensor TotalGradient(Communicator& comm, MoeFixture& f, const std::string& name) {
  const Parameter& p = f.Get(name);
  return Together(comm, p.grad, p.global_shape(), p.first_element());
}

void CheckAgainstOneRank(Communicator& comm, const ExpertParallelCase& c, DType dtype,
                         Device device) {
  const ExpertParallelProblem p(c, dtype, comm);
  constexpr int64_t kWidth = kExpertParallelWidth;
  MoeFixture one(kWidth, c.config, dtype), f(kWidth, c.config, dtype, 1, device, &comm, c.chunks);
  p.ShiftBias(one);
  p.ShiftBias(f);
  const auto round = [dtype](double v) { return RoundTo(dtype, v); };
  const NaiveMoe m = one.Naive(p.x);
  const NaiveResult exact = RunNaive<double>(m, p.dy.ToDoubles(), [](double v) { return v; });
  ASSERT_GT(exact.margin, 1e-4) << "the choice is not stable enough to compare";
  const NaiveResult naive =
      dtype == DType::kF64 ? exact : RunNaive<float>(m, p.dy.ToDoubles(), round);
  const std::vector<Tensor> expected = one.Step(p.x, p.dy),
                            out = f.Step(p.Mine(p.x).To(device), p.Mine(p.dy).To(device));
  const auto compare = [&](const Tensor& got, const Tensor& by_one,
                           const std::vector<double>& by_naive, const std::vector<double>& by_exact,
                           double factor, const std::string& what) {
    if (dtype == DType::kF64) {
      EXPECT_TRUE(Close(got, by_one, 1e-12)) << what;
      EXPECT_TRUE(Close(got, by_exact, Tolerance(dtype))) << what;
    } else {
      EXPECT_TRUE(WithinNaiveError(got, by_naive, by_exact, factor)) << what;
    }
  };
  const auto all_rows = [&](const Tensor& mine) {
    return Together(comm, mine, p.x.shape(), p.begin() * kWidth);
  };
  compare(all_rows(out[0]), expected[0], naive.y, exact.y, 2, "y");
  compare(all_rows(out[1]), expected[1], naive.d.x, exact.d.x, 3, "dx");
  const auto gradient = [&](const std::string& name, const std::vector<double>& by_naive,
                            const std::vector<double>& by_exact) {
    compare(TotalGradient(comm, f, name), one.Get(name).grad, by_naive, by_exact, 3, name);
  };
  gradient("gate.weight", naive.d.gate, exact.d.gate);
  gradient("experts.gate_up_proj.weight", naive.d.gate_up, exact.d.gate_up);
  gradient("experts.down_proj.weight", naive.d.down, exact.d.down);
  if (c.config.num_shared == 0) return;
  gradient("shared_experts.gate_up_proj.weight", naive.d.shared_gate_up, exact.d.shared_gate_up);
  gradient("shared_experts.down_proj.weight", naive.d.shared_down, exact.d.shared_down);
}

}  // namespace lacuna::test
