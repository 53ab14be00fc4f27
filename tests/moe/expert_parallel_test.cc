// A layer whose experts are spread over ranks against the layer on one rank and the naive
// reference: ranks as threads with late messages, and under MPI.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/kernel.h"
#include "core/parallel.h"
#include "tests/distributed/thread_transport.h"
#include "tests/moe/expert_parallel_case.h"
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
using test::TotalGradient;
using Case = test::ExpertParallelCase;
using Problem = test::ExpertParallelProblem;

constexpr int64_t kWidth = test::kExpertParallelWidth, kExperts = test::kExpertParallelExperts;

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

class ExpertParallel : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, ExpertParallel, testing::ValuesIn(test::ExpertParallelCases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(ExpertParallel, EqualsOneRankAndTheNaiveReference) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(NameOf(dtype));
    OnEveryRank([&](Communicator& comm) { test::CheckAgainstOneRank(comm, GetParam(), dtype); });
  }
}

TEST_P(ExpertParallel, RepeatsItsBitsAlsoWithRecompute) {
  OnEveryRank([&](Communicator& comm) {
    const Problem p(GetParam(), DType::kF32, comm);
    std::vector<std::vector<Tensor>> results;
    for (const bool recompute : {false, false, true}) {
      MoeFixture f(kWidth, p.c.config, p.dtype, 1, kCpu, &comm, p.c.chunks);
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

// The rows that go to each rank: a token once, whatever the number of its choices there; chunk by chunk
// in forward, at once in backward. With recompute there once more, but for the counts, and not back:
// nobody reads what would come.
TEST_P(ExpertParallel, ATokenIsSentOnceToEachRank) {
  OnEveryRank([&](Communicator& comm) {
    const Problem p(GetParam(), DType::kF64, comm);
    for (const bool recompute : {false, true}) {
      RecordingCommunicator recorded(comm);
      MoeFixture one(kWidth, p.c.config, p.dtype),
          f(kWidth, p.c.config, p.dtype, 1, kCpu, &recorded, p.c.chunks);
      p.ShiftBias(one);
      p.ShiftBias(f);
      const NaiveResult naive =
          test::RunNaive<double>(one.Naive(p.x), p.dy.ToDoubles(), [](double v) { return v; });
      const auto chosen = static_cast<size_t>(p.c.config.experts_per_token),
                 ranks = static_cast<size_t>(comm.size());
      const auto chunks = static_cast<size_t>(p.c.chunks);
      using Rows = std::vector<std::vector<int64_t>>;
      // [chunk][from][to] and [chunk][to][from]
      std::vector<Rows> there(chunks, Rows(ranks, std::vector<int64_t>(ranks, 0))), back = there;
      size_t n = 0;
      for (size_t from = 0; from < ranks; ++from) {
        for (int64_t i = 0; i < p.rows[from]; ++i, ++n) {
          std::set<size_t> to;
          for (size_t k = 0; k < chosen; ++k)
            to.insert(static_cast<size_t>(naive.ids[n * chosen + k]) / (kExperts / ranks));
          size_t chunk = 0;
          while (i >= static_cast<int64_t>(chunk + 1) * p.rows[from] / p.c.chunks) ++chunk;
          for (const size_t r : to) {
            ++there[chunk][from][r];
            ++back[chunk][r][from];
          }
        }
      }
      f.Step(p.Mine(p.x), p.Mine(p.dy), {.recompute = recompute});

      Rows away, home;
      std::vector<int64_t> all_away, all_home;
      for (size_t chunk = 0; chunk < chunks; ++chunk) {
        away.push_back(there[chunk][p.rank]);
        home.push_back(back[chunk][p.rank]);
        all_away.insert(all_away.end(), away.back().begin(), away.back().end());
        all_home.insert(all_home.end(), home.back().begin(), home.back().end());
      }
      Rows expected = {std::vector<int64_t>(ranks, 1)};
      for (int forward = 0; forward < (recompute ? 2 : 1); ++forward) {
        expected.insert(expected.end(), {all_away, all_away});  // ids and weights
        expected.insert(expected.end(), away.begin(), away.end());
        if (forward == 0) expected.insert(expected.end(), home.begin(), home.end());
      }
      expected.insert(expected.end(), {all_away, all_home, all_home});  // dy; dx and dweights
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
    EXPECT_THROW(AllToAllDispatcher(9, comm, 0), Error);
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

// What is queued while rows are under way, by the kernels behind an exchange: forward the shared
// experts' halves on the first chunk's way there and the last one's way home, and the experts' work on
// a chunk while the next one and the one before it travel; backward, where rows travel at once, the
// shared experts' halves, the other way round.
TEST(ExpertParallelOverlap, WhatFillsTheWays) {
  const MoeConfig config{
      .num_experts = kExperts, .experts_per_token = 2, .expert_width = 6, .num_shared = 1};
  struct Names : KernelObserver {
    explicit Names(std::vector<std::string>& to) : events(to) {}
    void OnCall(const KernelCall& call, const std::function<void()>& run) override {
      events.emplace_back(call.name);
      run();
    }
    std::vector<std::string>& events;
  };
  for (const size_t chunks : {1, 2, 3}) {
    OnEveryRank([&](Communicator& comm) {
      RecordingCommunicator recorded(comm);
      MoeFixture f(kWidth, config, DType::kF32, 1, kCpu, &recorded, static_cast<int64_t>(chunks));
      Names names(recorded.events);
      const ObserveKernels observed(names);
      Tape tape;
      const PackedSequences sequences = PackedSequences::Single(11);
      ForwardContext ctx{.tape = tape, .sequences = sequences};
      const Variable x = tape.Leaf(RandomTensor({11, kWidth}, DType::kF32, 5));
      const Variable y = f.layer().Forward(ctx, x, {});
      // Behind exchange number `i`, up to the event `end`.
      const auto behind = [&](size_t i, const std::string& end) {
        auto at = recorded.events.begin();
        for (size_t n = 0; n <= i; ++n)
          at = std::find(at + (n > 0 ? 1 : 0), recorded.events.end(), "exchange");
        return std::vector<std::string>(at + 1, std::find(at + 1, recorded.events.end(), end));
      };
      // Exchanges: counts, ids, weights; chunks of tokens; chunks home.
      const size_t last_there = 2 + chunks, last_home = last_there + chunks;
      EXPECT_EQ(std::count(recorded.events.begin(), recorded.events.end(), "exchange"),
                static_cast<int64_t>(last_home + 1));
      EXPECT_EQ(behind(last_there, "sort_by_expert"),
                (std::vector<std::string>{"matmul", "swiglu_fwd"}));
      for (size_t home = last_there + 1; home < last_home; ++home) {
        EXPECT_EQ(behind(home, "exchange"),
                  (std::vector<std::string>{"permute_some_rows", "grouped_swiglu_chunk",
                                            "grouped_matmul_chunk", "unpermute_rows"}));
      }
      EXPECT_EQ(behind(last_home, "unpermute_rows"), std::vector<std::string>{"matmul"});
      recorded.events.clear();
      tape.Backward({{y, RandomTensor({11, kWidth}, DType::kF32, 6)}});
      // Exchanges: dy; dx and dweights.
      EXPECT_EQ(std::count(recorded.events.begin(), recorded.events.end(), "exchange"), 3);
      const std::vector<std::string> of_dy = behind(0, "exchange");
      ASSERT_GE(of_dy.size(), 2u);
      EXPECT_EQ(of_dy[0] + " " + of_dy[1], "matmul matmul");
      EXPECT_EQ(std::count(of_dy.begin(), of_dy.end(), "swiglu_bwd"), 0);
      const std::vector<std::string> of_dx = behind(2, "unpermute_rows");
      EXPECT_EQ(std::count(of_dx.begin(), of_dx.end(), "swiglu_bwd"), 1);
      EXPECT_EQ(std::count(of_dx.begin(), of_dx.end(), "matmul"), 2);
    });
  }
}

// Weight gradients are worked out while rows are under way: the experts' after dx has left, those
// of the layer above, from its gate up, and of the shared experts' last product after dy has left.
TEST(ExpertParallelOverlap, WeightGradientsFillTheWaits) {
  const MoeConfig config{
      .num_experts = kExperts, .experts_per_token = 2, .expert_width = 6, .num_shared = 1};
  OnEveryRank([&](Communicator& comm) {
    RecordingCommunicator recorded(comm);
    MoeLayer below(kWidth, config, 0.5, 0.5, DType::kF32, kCpu, &recorded, /*expert_chunks=*/2),
        above(kWidth, config, 0.5, 0.5, DType::kF32, kCpu, &recorded, /*expert_chunks=*/2);
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
      return std::vector<std::string>{name + ".shared_experts.down_proj.weight",
                                      "exchange",
                                      "exchange",
                                      name + ".experts.gate_up_proj.weight",
                                      name + ".experts.down_proj.weight",
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
