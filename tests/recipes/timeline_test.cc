// The model of a step's time, by hand; what a rehearsed rank receives.
#include "recipes/rehearsal/timeline.h"

#include <gtest/gtest.h>

#include "core/status.h"
#include "recipes/plan/rank_shares.h"
#include "recipes/rehearsal/received_choices.h"

namespace lacuna {
namespace {

// 10 bytes/s in all-to-alls, 20 in others, a tenth of a second each.
constexpr LinkRates kRates{.all_to_all = 10, .collective = 20, .latency = 0.1};

TimelineItem Work(double seconds) {
  TimelineItem item;
  item.seconds = seconds;
  return item;
}
TimelineItem Send(CollectiveKind kind, double bytes, bool on_host = false) {
  TimelineItem item;
  item.kind = TimelineItem::Kind::kLaunch;
  item.collective = {kind, bytes, on_host};
  return item;
}
TimelineItem WaitFor(int64_t launch, int64_t phases_back = 0) {
  TimelineItem item;
  item.kind = TimelineItem::Kind::kWait;
  item.launch = launch;
  item.phases_back = phases_back;
  return item;
}
constexpr CollectiveKind kRows = CollectiveKind::kAllToAll,
                         kShares = CollectiveKind::kReduceScatter;

TEST(Timeline, OverlapAndTheSerialLink) {
  StepTimeline timeline;
  // Both are launched at 1 s; the first takes 0.1 + 9 / 10 = 1 s, the second 0.1 + 18 / 20 = 1 s behind
  // it. Half a second of work hides half of the first one; 0.5 s of it and all of the second show.
  timeline.micro_batches = {
      {Work(1), Send(kRows, 9), Send(kShares, 18), Work(0.5), WaitFor(0), WaitFor(1), Work(1)}};
  const ModelledStep step = Replay(timeline, 1, kRates);
  EXPECT_DOUBLE_EQ(step.compute, 2.5);
  EXPECT_DOUBLE_EQ(step.communication, 2);
  EXPECT_DOUBLE_EQ(step.exposed, 1.5);
  EXPECT_DOUBLE_EQ(step.exposed_of_kind[static_cast<size_t>(kRows)], 0.5);
  EXPECT_DOUBLE_EQ(step.exposed_of_kind[static_cast<size_t>(kShares)], 1);
  EXPECT_DOUBLE_EQ(step.total(), 4);
  EXPECT_DOUBLE_EQ(step.communication_share(), 2 / 4.5);
  EXPECT_DOUBLE_EQ(step.exposed_share(), 1.5 / 4);
}

TEST(Timeline, WhatIsHiddenCostsNothing) {
  StepTimeline timeline;
  timeline.micro_batches = {{Send(kShares, 18), Work(1.5), WaitFor(0)}};
  EXPECT_DOUBLE_EQ(Replay(timeline, 1, kRates).exposed, 0);
  EXPECT_DOUBLE_EQ(Replay(timeline, 1, kRates).total(), 1.5);
}

// The first micro-batch once, the second as often as the step has more; a bucket that travels from one
// to the next is waited for in each.
TEST(Timeline, MicroBatchesOfTheStep) {
  StepTimeline timeline;
  timeline.begin = {Work(0.25)};
  timeline.micro_batches = {{Work(1), Send(kShares, 18)},
                            {Work(0.5), WaitFor(0, 1), Work(1), Send(kShares, 18)}};
  timeline.end = {WaitFor(0, 1), Work(0.25), Send(CollectiveKind::kAllGather, 8), WaitFor(0)};
  timeline.loading = 0.01;
  const ModelledStep step = Replay(timeline, 5, kRates);
  EXPECT_DOUBLE_EQ(step.compute, 0.25 + 1 + 4 * 1.5 + 0.25);
  EXPECT_DOUBLE_EQ(step.communication, 5 * 1 + 0.5);
  // Half of each of the first four, all of the fifth and of the all-gather.
  EXPECT_DOUBLE_EQ(step.exposed, 4 * 0.5 + 1 + 0.5);
  EXPECT_DOUBLE_EQ(step.loading, 0.05);
  const PhaseVolumes volumes = VolumesOf(timeline, 5);
  EXPECT_EQ(volumes.of_kind[static_cast<size_t>(kShares)].collectives, 5);
  EXPECT_DOUBLE_EQ(volumes.of_kind[static_cast<size_t>(kShares)].link_bytes, 5 * 18);
  EXPECT_DOUBLE_EQ(volumes.of_kind[static_cast<size_t>(CollectiveKind::kAllGather)].link_bytes, 8);
}

TEST(Timeline, TheHostsCollectivesAreNotOnTheLink) {
  StepTimeline timeline;
  timeline.micro_batches = {{Send(kRows, 1000, /*on_host=*/true), WaitFor(0), Work(1)}};
  const ModelledStep step = Replay(timeline, 2, kRates);
  EXPECT_DOUBLE_EQ(step.communication, 0);
  EXPECT_DOUBLE_EQ(step.total(), 2);
  EXPECT_EQ(VolumesOf(timeline, 2).on_host, 2);
}

TEST(Timeline, AWaitForNothingIsAnError) {
  StepTimeline timeline;
  timeline.micro_batches = {{WaitFor(0)}};
  EXPECT_THROW(Replay(timeline, 1, kRates), Error);
}

constexpr ChoiceDistribution kDistribution{
    .num_experts = 16, .experts_per_token = 4, .ranks = 4, .tokens = 2048, .balance = 1, .seed = 3};

TEST(ReceivedChoices, MeetTheBalance) {
  for (const double balance : {1.0, 1.3, 2.0}) {
    ChoiceDistribution distribution = kDistribution;
    distribution.balance = balance;
    const ReceivedChoices received(distribution, 4, kCpu, DType::kF32);
    for (const ReceivedChoices::Draw& draw : received.draws()) {
      EXPECT_NEAR(static_cast<double>(draw.num_choices) / distribution.even_share(), balance,
                  0.05 * balance);
      ASSERT_EQ(draw.ids.dim(0), draw.num_rows);
      int64_t choices = 0;
      for (int64_t row = 0; row < draw.num_rows; ++row) {
        std::vector<int> seen(4, 0);
        for (int64_t k = 0; k < 4; ++k) {
          const int32_t id = draw.ids.data<int32_t>()[row * 4 + k];
          ASSERT_TRUE(id >= -1 && id < 4);
          if (id < 0) continue;
          ++choices;
          EXPECT_EQ(++seen[static_cast<size_t>(id)], 1) << "an expert twice";
          EXPECT_EQ(draw.weights.data<float>()[row * 4 + k], 0.25f);
        }
      }
      EXPECT_EQ(choices, draw.num_choices);
    }
  }
}

TEST(ReceivedChoices, UniformRowsAreTheExpectedOnes) {
  const ReceivedChoices received(kDistribution, 1, kCpu, DType::kF32);
  const double rows =
      static_cast<double>(received.draws()[0].num_rows) / static_cast<double>(kDistribution.tokens);
  EXPECT_NEAR(rows, 4 * ArrivalsOf(16, 4, 4, 1).rows, 0.05);
  EXPECT_NEAR(ArrivalsOf(16, 4, 4, 1).choices, 1, 1e-12);  // K / P
}

// Chunks of every source, in order of the chunks; ids say which one a row is of.
TEST(ReceivedChoices, ComeInChunks) {
  ChoiceDistribution distribution = kDistribution;
  distribution.tokens = 1001;
  distribution.chunks = 3;
  ReceivedChoices received(distribution, 1, kCpu, DType::kF32);
  const ReceivedChoices::Draw draw = received.draws()[0];
  ASSERT_EQ(draw.rows.size(), 12u);
  int64_t row = 0, choices = 0;
  for (size_t i = 0; i < 12; ++i) {
    EXPECT_NEAR(static_cast<double>(draw.rows[i]), 334 * ArrivalsOf(16, 4, 4, 1).rows, 60);
    for (int64_t end = row + draw.rows[i]; row < end; ++row) {
      for (int64_t k = 0; k < 4; ++k) {
        const int32_t id = draw.ids.data<int32_t>()[row * 4 + k];
        ASSERT_TRUE(id >= -1 && id < 12);
        if (id < 0) continue;
        ++choices;
        EXPECT_EQ(id % 3, static_cast<int32_t>(i / 4));
      }
    }
  }
  EXPECT_EQ(row, draw.num_rows);
  EXPECT_EQ(choices, draw.num_choices);
  // In the exchange of counts: a source's rows of each chunk, and its choices.
  Tensor counts = Tensor::Zeros({4, 4}, DType::kI64);
  const std::vector<int64_t> one(4, 1);
  ASSERT_TRUE(received.Receive(counts, one, counts, one));
  for (size_t source = 0; source < 4; ++source) {
    for (size_t chunk = 0; chunk < 3; ++chunk)
      EXPECT_EQ(counts.data<int64_t>()[4 * source + chunk], draw.rows[4 * chunk + source]);
    EXPECT_EQ(counts.data<int64_t>()[4 * source + 3], draw.choices[source]);
  }
}

TEST(ReceivedChoices, TheSameSeedDrawsTheSame) {
  ChoiceDistribution distribution = kDistribution;
  distribution.balance = 1.3;
  const ReceivedChoices a(distribution, 2, kCpu, DType::kF32),
      b(distribution, 2, kCpu, DType::kF32);
  EXPECT_EQ(a.draws()[1].rows, b.draws()[1].rows);
  EXPECT_EQ(a.draws()[1].ids.ToDoubles(), b.draws()[1].ids.ToDoubles());
  EXPECT_NE(a.draws()[0].rows, a.draws()[1].rows);
  distribution.seed = 4;
  EXPECT_NE(ReceivedChoices(distribution, 2, kCpu, DType::kF32).draws()[1].rows, a.draws()[1].rows);
}

TEST(ReceivedChoices, WhatNoDistributionGives) {
  ChoiceDistribution distribution = kDistribution;
  distribution.balance = 4;
  EXPECT_EQ(ExitCodeOf(distribution.Validate()), ExitCode::kConfig);
  distribution.balance = 3.9;
  EXPECT_TRUE(distribution.Validate().ok());
}

}  // namespace
}  // namespace lacuna
