// A layer whose experts are spread over ranks against the layer on one rank and the naive
// reference: ranks as threads with late messages, and under MPI.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/parallel.h"
#include "tests/distributed/thread_transport.h"
#include "tests/moe/moe_fixture.h"
#include "tests/moe/recording_communicator.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/mpi_world.h"

namespace lacuna {
namespace {

using test::Close;
using test::MoeFixture;
using test::NaiveResult;
using test::RandomTensor;
using test::RecordingCommunicator;
using test::SameBits;
using test::WithinNaiveError;

constexpr int64_t kWidth = 10, kExperts = 8;

void OnEveryRank(const std::function<void(Communicator&)>& body) {
  SetNumThreads(1);
  body(test::World());
  if (test::World().rank() != 0) return;
  for (const int ranks : {1, 2, 4}) {
    SCOPED_TRACE(fmt::format("{} threads", ranks));
    test::Mailbox box;
    box.delay = [](int from, int to, int tag) { return (from * 31 + to * 17 + tag * 7) % 23; };
    test::RunRanks(box, ranks, [&](Communicator& comm) {
      SetNumThreads(1);
      body(comm);
    });
  }
}

// The rows of each rank.
using Cut = std::vector<int64_t> (*)(int ranks);
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

struct Case {
  const char* name;
  MoeConfig config;
  Cut cut = Uneven;
  int64_t favoured = -1;  // whose experts all tokens choose, as far as there are enough of them

  friend void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }
};

std::vector<Case> Cases() {
  const MoeConfig base{.num_experts = kExperts,
                       .experts_per_token = 3,
                       .expert_width = 6,
                       .num_shared = 1,
                       .bias_update_rate = 0};
  MoeConfig softmax = base, every = base, two = base;
  softmax.router = RouterKind::kSoftmax;
  softmax.num_shared = 0;
  softmax.normalize_weights = false;
  every.experts_per_token = kExperts;
  two.experts_per_token = 2;
  return {{"sigmoid", base},
          {"softmax_no_shared", softmax},
          {"every_expert", every},
          {"rank_without_rows", base, NoneOnTheFirst},
          {"rows_on_one_rank", base, AllOnTheLast},
          {"experts_of_one_rank", two, Uneven, kExperts - 1},
          {"from_one_rank_to_one", two, AllOnTheLast, 0}};
}

// The same problem for all ranks, and each one's part of it.
struct Problem {
  Problem(const Case& c, DType dtype, const Communicator& comm)
      : c(c), dtype(dtype), rows(c.cut(comm.size())), rank(static_cast<size_t>(comm.rank())) {
    const int64_t all = std::accumulate(rows.begin(), rows.end(), int64_t{0});
    x = RandomTensor({all, kWidth}, dtype, 5);
    dy = RandomTensor({all, kWidth}, dtype, 6);
  }
  int64_t begin() const {
    return std::accumulate(rows.begin(), rows.begin() + static_cast<int64_t>(rank), int64_t{0});
  }
  Tensor Mine(const Tensor& all) const { return all.Slice(begin(), begin() + rows[rank]); }
  void ShiftBias(MoeFixture& f) const {
    if (c.config.router != RouterKind::kSigmoid) return;
    std::vector<double> bias = RandomTensor({kExperts}, DType::kF64, 77, 0.3).ToDoubles();
    // As many experts as a token chooses, next to the favoured one.
    const int64_t first = c.favoured == 0 ? 0 : kExperts - c.config.experts_per_token;
    for (int64_t e = first; c.favoured >= 0 && e < first + c.config.experts_per_token; ++e)
      bias[static_cast<size_t>(e)] += 100;
    f.Bias().CopyFrom(Tensor::FromDoubles(bias, {kExperts}, f.Bias().dtype()));
  }

  Case c;
  DType dtype;
  std::vector<int64_t> rows;
  size_t rank;
  Tensor x, dy;
};

// Parts of a tensor put together, parts of a sum added up: the same on every rank.
Tensor Together(Communicator& comm, const Tensor& part, const Shape& shape, int64_t first) {
  Tensor whole = Tensor::Zeros(shape, part.dtype());
  whole.View(first, part.shape()).CopyFrom(part);
  comm.AllReduceSum(whole).Wait();
  return whole;
}
Tensor TotalGradient(Communicator& comm, MoeFixture& f, const std::string& name) {
  const Parameter& p = f.Get(name);
  return Together(comm, p.grad, p.global_shape(), p.first_element());
}

double Exact(double v) {
  return v;
}
double RoundToSingle(double v) {
  return static_cast<double>(static_cast<float>(v));
}

void ExpectEqual(const Tensor& got, const Tensor& one_rank, const std::vector<double>& naive,
                 const std::vector<double>& exact, double factor, const char* what) {
  if (got.dtype() == DType::kF64) {
    EXPECT_TRUE(Close(got, one_rank, 1e-12)) << what;
    EXPECT_TRUE(Close(got, exact, test::Tolerance(DType::kF64))) << what;
  } else {
    EXPECT_TRUE(WithinNaiveError(got, naive, exact, factor)) << what;
  }
}

class ExpertParallel : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, ExpertParallel, testing::ValuesIn(Cases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(ExpertParallel, EqualsOneRankAndTheNaiveReference) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    SCOPED_TRACE(NameOf(dtype));
    OnEveryRank([&](Communicator& comm) {
      const Problem p(GetParam(), dtype, comm);
      MoeFixture one(kWidth, p.c.config, dtype), f(kWidth, p.c.config, dtype, 1, kCpu, &comm);
      p.ShiftBias(one);
      p.ShiftBias(f);
      const NaiveResult exact = test::RunNaive<double>(one.Naive(p.x), p.dy.ToDoubles(), Exact);
      ASSERT_GT(exact.margin, 1e-4) << "the choice is not stable enough to compare";
      const NaiveResult naive =
          dtype == DType::kF64
              ? exact
              : test::RunNaive<float>(one.Naive(p.x), p.dy.ToDoubles(), RoundToSingle);
      const std::vector<Tensor> expected = one.Step(p.x, p.dy),
                                out = f.Step(p.Mine(p.x), p.Mine(p.dy));
      const auto all_rows = [&](const Tensor& mine) {
        return Together(comm, mine, p.x.shape(), p.begin() * kWidth);
      };
      ExpectEqual(all_rows(out[0]), expected[0], naive.y, exact.y, 2, "y");
      ExpectEqual(all_rows(out[1]), expected[1], naive.d.x, exact.d.x, 3, "dx");
      const auto gradient = [&](const std::string& name, const std::vector<double>& by_naive,
                                const std::vector<double>& by_exact) {
        ExpectEqual(TotalGradient(comm, f, name), one.Get(name).grad, by_naive, by_exact, 3,
                    name.c_str());
      };
      gradient("gate.weight", naive.d.gate, exact.d.gate);
      gradient("experts.gate_up_proj.weight", naive.d.gate_up, exact.d.gate_up);
      gradient("experts.down_proj.weight", naive.d.down, exact.d.down);
      if (p.c.config.num_shared == 0) return;
      gradient("shared_experts.gate_up_proj.weight", naive.d.shared_gate_up,
               exact.d.shared_gate_up);
      gradient("shared_experts.down_proj.weight", naive.d.shared_down, exact.d.shared_down);
    });
  }
}

TEST_P(ExpertParallel, RepeatsItsBitsAlsoWithRecompute) {
  OnEveryRank([&](Communicator& comm) {
    const Problem p(GetParam(), DType::kF32, comm);
    std::vector<std::vector<Tensor>> results;
    for (const bool recompute : {false, false, true}) {
      MoeFixture f(kWidth, p.c.config, p.dtype, 1, kCpu, &comm);
      p.ShiftBias(f);
      results.push_back(f.Step(p.Mine(p.x), p.Mine(p.dy), {.recompute = recompute}));
      results.back().push_back(f.flat().grad());
      results.back().push_back(f.Infer(p.Mine(p.x)));
    }
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_TRUE(SameBits(results[1][i], results[0][i])) << i;
      EXPECT_TRUE(SameBits(results[2][i], results[0][i])) << i;
    }
    EXPECT_TRUE(SameBits(results[0][3], results[0][0]));
  });
}

// The rows that go to each rank: a token once, whatever the number of its choices there; once more
// with recompute, but for the counts.
TEST_P(ExpertParallel, ATokenIsSentOnceToEachRank) {
  OnEveryRank([&](Communicator& comm) {
    const Problem p(GetParam(), DType::kF64, comm);
    for (const bool recompute : {false, true}) {
      RecordingCommunicator recorded(comm);
      MoeFixture one(kWidth, p.c.config, p.dtype),
          f(kWidth, p.c.config, p.dtype, 1, kCpu, &recorded);
      p.ShiftBias(one);
      p.ShiftBias(f);
      const NaiveResult naive = test::RunNaive<double>(one.Naive(p.x), p.dy.ToDoubles(), Exact);
      const auto chosen = static_cast<size_t>(p.c.config.experts_per_token),
                 ranks = static_cast<size_t>(comm.size());
      // [from][to]
      std::vector<std::vector<int64_t>> rows(ranks, std::vector<int64_t>(ranks, 0));
      size_t n = 0;
      for (size_t from = 0; from < ranks; ++from) {
        for (int64_t i = 0; i < p.rows[from]; ++i, ++n) {
          std::set<size_t> to;
          for (size_t k = 0; k < chosen; ++k)
            to.insert(static_cast<size_t>(naive.ids[n * chosen + k]) / (kExperts / ranks));
          for (const size_t r : to) ++rows[from][r];
        }
      }
      std::vector<int64_t> back;
      for (size_t r = 0; r < ranks; ++r) back.push_back(rows[r][p.rank]);
      f.Step(p.Mine(p.x), p.Mine(p.dy), {.recompute = recompute});

      const std::vector<int64_t> one_each(ranks, 1), &away = rows[p.rank];
      std::vector<std::vector<int64_t>> expected = {one_each, away, away, away, back};
      if (recompute) expected.insert(expected.end(), {away, away, away, back});
      expected.insert(expected.end(), {away, back, back});  // dy; dx and dweights
      EXPECT_EQ(recorded.sent_rows, expected);
    }
  });
}

TEST(ExpertParallelParameters, PartsAreThoseOfTheWhole) {
  const MoeConfig config{
      .num_experts = kExperts, .experts_per_token = 2, .expert_width = 6, .num_shared = 1};
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    OnEveryRank([&](Communicator& comm) {
      MoeFixture one(kWidth, config, dtype), f(kWidth, config, dtype, 1, kCpu, &comm);
      for (const Parameter* whole : test::ParametersOf(one.layer())) {
        const Parameter& part = f.Get(whole->name.substr(std::string("layers.3.mlp.").size()));
        EXPECT_EQ(part.global_shape(), whole->shape) << whole->name;
        const bool spread = whole->name.find(".experts.") != std::string::npos;
        const int64_t first = spread ? comm.rank() * whole->numel() / comm.size() : 0;
        EXPECT_EQ(part.first_element(), first) << whole->name;
        EXPECT_EQ(part.numel(), spread ? whole->numel() / comm.size() : whole->numel());
        EXPECT_TRUE(SameBits(part.value, whole->value.View(first, part.shape))) << whole->name;
      }
    });
  }
}

TEST(ExpertParallelParameters, ExpertsThatTheRanksDoNotDivideAreAnError) {
  if (test::World().rank() != 0) return;  // not a matter of MPI
  test::Mailbox box;
  test::RunRanks(box, 3, [](Communicator& comm) {
    EXPECT_THROW(MoeFixture(kWidth, {.num_experts = kExperts}, DType::kF64, 1, kCpu, &comm), Error);
    EXPECT_THROW(AllToAllDispatcher(kExperts, comm), Error);
  });
}

// Losses that need no more than a rank's own rows or everyone's counts, the counts themselves and
// the bias that is made from them are those of one rank.
TEST(ExpertParallelBalance, LossesCountsAndBiasAreThoseOfOneRank) {
  constexpr int64_t kRows = 24, kSamples = 4;
  for (const AuxLossScope scope : {AuxLossScope::kSequence, AuxLossScope::kGlobalBatch}) {
    const MoeConfig config{.num_experts = kExperts,
                           .experts_per_token = 2,
                           .expert_width = 6,
                           .num_shared = 1,
                           .bias_update_rate = 0.01,
                           .aux_loss = scope,
                           .aux_loss_coef = 0.3,
                           .z_loss_coef = 0.2};
    OnEveryRank([&](Communicator& comm) {
      const Tensor x = RandomTensor({kRows, kWidth}, DType::kF64, 5),
                   dy = RandomTensor({kRows, kWidth}, DType::kF64, 6);
      MoeFixture one(kWidth, config, DType::kF64), f(kWidth, config, DType::kF64, 1, kCpu, &comm);
      f.layer().set_count_reducer([&](Tensor& counts) { comm.AllReduceSum(counts).Wait(); });
      const int64_t mine = kRows / comm.size(), begin = comm.rank() * mine;
      Metrics expected, metrics;
      const Tensor dx =
          one.Step(x, dy, {.metrics = &expected, .rows_per_sample = kRows / kSamples})[1];
      const Tensor dx_mine = f.Step(x.Slice(begin, begin + mine), dy.Slice(begin, begin + mine),
                                    {.metrics = &metrics,
                                     .rows_per_sample = kRows / kSamples,
                                     .share = 1.0 / comm.size()})[1];
      EXPECT_TRUE(Close(dx_mine, dx.Slice(begin, begin + mine), 1e-12));
      for (const Parameter* p : test::ParametersOf(one.layer())) {
        const std::string name = p->name.substr(std::string("layers.3.mlp.").size());
        EXPECT_TRUE(Close(TotalGradient(comm, f, name), p->grad, 1e-12)) << name;
      }
      const char* const kLoss = "layers.3.mlp.aux_loss";
      Tensor loss = Tensor::FromVector(
          std::vector<double>{metrics.scalars().at(kLoss).mean() / comm.size()}, {1});
      comm.AllReduceSum(loss).Wait();
      EXPECT_NEAR(loss.ToDoubles()[0], expected.scalars().at(kLoss).mean(), 1e-12);

      comm.AllReduceSum(f.layer().step_counts()).Wait();
      EXPECT_TRUE(SameBits(f.layer().step_counts(), one.layer().step_counts()));
      f.layer().UpdateBias();
      one.layer().UpdateBias();
      EXPECT_TRUE(SameBits(f.Bias(), one.Bias()));
    });
  }
}

// Weight gradients are worked out while rows are under way: the experts' after dx has left, those
// of the layer above, from its gate up, after dy of the layer below has left.
TEST(ExpertParallelOverlap, WeightGradientsFillTheWaits) {
  const MoeConfig config{
      .num_experts = kExperts, .experts_per_token = 2, .expert_width = 6, .num_shared = 1};
  OnEveryRank([&](Communicator& comm) {
    RecordingCommunicator recorded(comm);
    MoeLayer below(kWidth, config, 0.5, 0.5, DType::kF32, kCpu, &recorded),
        above(kWidth, config, 0.5, 0.5, DType::kF32, kCpu, &recorded);
    std::vector<std::unique_ptr<FlatParameters>> flat;
    for (auto& [name, layer] : {std::pair{"below", &below}, std::pair{"above", &above}}) {
      layer->SetName(name);
      flat.push_back(std::make_unique<FlatParameters>(*layer, DType::kF32, 1));
      layer->ForEachParameter([&](Parameter& p) {
        p.on_grad_ready = [&](Parameter& ready) { recorded.events.push_back(ready.name); };
      });
    }
    Tape tape;
    const PackedSequences sequences = PackedSequences::Single(11);
    ForwardContext ctx{.tape = tape, .sequences = sequences};
    const Variable x = tape.Leaf(RandomTensor({11, kWidth}, DType::kF32, 5));
    const Variable y = above.Forward(ctx, below.Forward(ctx, x, {}), {});
    recorded.events.clear();
    tape.Backward({{y, RandomTensor({11, kWidth}, DType::kF32, 6)}}, /*fire_hooks=*/true);
    const auto layer = [](const std::string& name) {
      return std::vector<std::string>{"exchange",
                                      "exchange",
                                      name + ".experts.gate_up_proj.weight",
                                      name + ".experts.down_proj.weight",
                                      name + ".shared_experts.down_proj.weight",
                                      name + ".shared_experts.gate_up_proj.weight"};
    };
    std::vector<std::string> expected = {"exchange"};
    const std::vector<std::string> of_above = layer("above"), of_below = layer("below");
    expected.insert(expected.end(), of_above.begin(), of_above.end());
    expected.insert(expected.end(), {"exchange", "above.gate.weight"});
    expected.insert(expected.end(), of_below.begin(), of_below.end());
    expected.push_back("below.gate.weight");
    EXPECT_EQ(recorded.events, expected);
  });
}

}  // namespace
}  // namespace lacuna
