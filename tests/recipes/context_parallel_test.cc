// Ranks that share samples (parallel.context): the steps of one rank, whatever the documents' lengths,
// beside shared experts, sharded state and recomputation.
#include <gtest/gtest.h>

#include "nn/context_gather.h"
#include "tests/distributed/thread_transport.h"
#include "tests/recipes/rank_case.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"

namespace lacuna {
namespace {

using test::RankOptions;
using test::Trace;
using test::Variant;

TEST(ContextRows, TwoPiecesARankOfEverySample) {
  EXPECT_EQ(RowsOfContextRank(8, 8, 2, 0), (std::vector<int32_t>{0, 1, 6, 7}));
  EXPECT_EQ(RowsOfContextRank(8, 8, 2, 1), (std::vector<int32_t>{2, 3, 4, 5}));
  EXPECT_EQ(RowsOfContextRank(16, 8, 4, 1), (std::vector<int32_t>{1, 6, 9, 14}));
  EXPECT_THROW(RowsOfContextRank(12, 6, 2, 0), Error);
}

TEST(ContextRows, KnowTheirDocuments) {
  const PackedSequences sequences({0, 2, 3, 8});
  const RowSubset rows(sequences, {0, 1, 6, 7}, "mine");
  const std::vector<double> positions = rows.positions().ToDoubles(),
                            cu = rows.cu_seqlens().ToDoubles();
  EXPECT_EQ(positions, (std::vector<double>{0, 1, 3, 4}));
  EXPECT_EQ(cu, (std::vector<double>{0, 2, 2, 4}));  // none of the second document's
  const std::vector<double> picked = rows.Pick({0, 1, 2, 3, 4, 5, 6, 7}, 1).ToDoubles();
  EXPECT_EQ(picked, (std::vector<double>{0, 1, 6, 7}));
  EXPECT_THROW(RowSubset(sequences, {1, 0}, "falling"), Error);
  EXPECT_THROW(RowSubset(sequences, {8}, "outside"), Error);
}

TEST(ContextRows, CountTheBatchOnce) {
  const Batch whole = test::MakeBatch({3, 4});
  std::vector<double> targets;
  int64_t num_targets = 0, tokens = 0;
  uint64_t hash = 0;
  for (int rank = 0; rank < 4; ++rank) {
    Batch batch = whole;
    KeepContextRows(&batch, test::kRows, 4, rank);
    EXPECT_EQ(batch.ids.numel(), whole.ids.numel() / 4);
    num_targets += batch.num_target_tokens;
    tokens += batch.tokens_per_source[0];
    hash += batch.content_hash;
  }
  EXPECT_EQ(num_targets, whole.num_target_tokens);
  EXPECT_EQ(tokens, whole.tokens_per_source[0]);
  EXPECT_EQ(hash, whole.content_hash);
}

// The group's rows in order, and gradients that are sums over the ranks.
TEST(ContextGather, AndTheSumHome) {
  constexpr int64_t kTokens = 32, kWidth = 3;
  for (const int ranks : {2, 4}) {
    test::Mailbox box;
    test::RunRanks(box, ranks, [&](Communicator& comm) {
      const PackedSequences sequences({0, 11, kTokens});
      const ContextShare share(sequences, kTokens / 2, comm);
      std::vector<double> own;
      for (const int32_t row : share.rows().rows()) {
        for (int64_t c = 0; c < kWidth; ++c) own.push_back(static_cast<double>(row * kWidth + c));
      }
      Tape tape;
      const Variable x =
          tape.Leaf(Tensor::FromDoubles(own, {share.num_rows(), kWidth}, DType::kF64));
      ContextGather gather(tape, share, x);
      const Variable y = gather.Finish();
      const std::vector<double> all = y.value().ToDoubles();
      for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], static_cast<double>(i));
      std::vector<double> gradient;
      for (const double value : all) gradient.push_back(value + 1000.0 * (comm.rank() + 1));
      tape.Backward({{y, Tensor::FromDoubles(gradient, {kTokens, kWidth}, DType::kF64)}});
      const std::vector<double> dx = tape.Grad(x).ToDoubles();
      for (size_t i = 0; i < dx.size(); ++i)
        EXPECT_EQ(dx[i], ranks * own[i] + 1000.0 * ranks * (ranks + 1) / 2);
    });
  }
}

constexpr Variant kNsaSequence{AttentionKind::kNsa, RouterKind::kSigmoid, AuxLossScope::kSequence,
                               "nsa_sequence"};
constexpr Variant kNsaGlobal{AttentionKind::kNsa, RouterKind::kSigmoid, AuxLossScope::kGlobalBatch,
                             "nsa_global_batch"};
constexpr Variant kFullMicroBatch{AttentionKind::kFull, RouterKind::kSoftmax,
                                  AuxLossScope::kMicroBatch, "full_micro_batch"};
constexpr Variant kFullSequence{AttentionKind::kFull, RouterKind::kSoftmax, AuxLossScope::kSequence,
                                "full_sequence"};

void ExpectOneRanksSteps(const Variant& variant, Communicator& comm, RankOptions options,
                         const std::string& what) {
  SCOPED_TRACE(what);
  options.steps = 5;
  SetNumThreads(1);
  const auto self = MakeSelfCommunicator();
  RankOptions of_one = options;
  of_one.recompute = {};
  of_one.shard_updates = false;
  const Trace one = TrainSteps(variant, *self, of_one), many = TrainSteps(variant, comm, options);
  EXPECT_LT(one.losses.back(), one.losses.front()) << "nothing is learnt";
  EXPECT_TRUE(test::Close(many.losses, one.losses, 1e-12));
  EXPECT_TRUE(test::Close(many.norms, one.norms, 1e-12));
  EXPECT_TRUE(test::Close(many.weights, one.weights, 1e-12));
  EXPECT_TRUE(test::Close(many.telemetry, one.telemetry, 1e-12));
  EXPECT_TRUE(test::Close(many.bias, one.bias, 0));
  EXPECT_EQ(many.data_hashes, one.data_hashes);
}

// Every way to share among these ranks.
void ExpectOneRanksStepsHoweverShared(const Variant& variant, Communicator& comm) {
  const int ranks = comm.size();
  // What the balance loss of the global batch counts, depends on how many have samples of their own.
  const int some = variant.aux_loss == AuxLossScope::kGlobalBatch ? ranks : 2;
  ExpectOneRanksSteps(variant, comm, {.context = ranks}, "all share samples");
  ExpectOneRanksSteps(variant, comm, {.micro_batch = 2, .context = ranks}, "two samples each");
  ExpectOneRanksSteps(variant, comm, {.shard_updates = true, .expert = ranks, .context = some},
                      "all share experts, state is sharded");
  ExpectOneRanksSteps(variant, comm, {.expert = 2, .context = ranks, .recompute = {.block = true}},
                      "pairs share experts, blocks are recomputed");
  ExpectOneRanksSteps(variant, comm,
                      {.context = some, .recompute = {.attention = true, .feed_forward = true}},
                      "both halves of a block are recomputed");
  ExpectOneRanksSteps(
      variant, comm,
      {.context = some, .recompute = {.block = true, .keeps = RecomputeKeeps::kAttention}},
      "attention's outputs are kept");
}

class ContextParallel : public testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(All, ContextParallel,
                         testing::Values(kNsaSequence, kNsaGlobal, kFullMicroBatch, kFullSequence),
                         [](const auto& info) { return info.param.name; });

TEST_P(ContextParallel, OneRanksSteps) {
  if (test::World().size() == 1) return;  // nothing to share
  ExpectOneRanksStepsHoweverShared(GetParam(), test::World());
}

TEST_P(ContextParallel, OneRanksStepsOverThreads) {
  if (test::World().rank() != 0) return;  // not a matter of MPI
  for (const int ranks : {2, 4}) {
    test::Mailbox box;
    box.delay = [](int from, int to, int tag) { return (from * 31 + to * 17 + tag * 7) % 23; };
    test::RunRanks(box, ranks,
                   [](Communicator& comm) { ExpectOneRanksStepsHoweverShared(GetParam(), comm); });
  }
}

}  // namespace
}  // namespace lacuna
