// A whole model whose experts are spread over ranks: its start, loss and gradients are those of the
// model on one rank that has every rank's samples in one batch, whatever is recomputed.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/parallel.h"
#include "nn/metrics.h"
#include "recipes/model_builder.h"
#include "tests/distributed/thread_transport.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

constexpr int64_t kRows = 32, kSamples = 4, kVocabulary = 40;

BuiltModel Build(AttentionKind attention, RecomputePolicy recompute, DType dtype,
                 Communicator* expert_group) {
  ModelConfig model;
  model.attention = attention;
  model.num_layers = 3;
  model.num_dense_layers = 1;
  model.width = 16;
  model.vocab_size = kVocabulary;
  model.num_heads = 4;
  model.num_groups = 2;
  model.head_dim_qk = 8;
  model.head_dim_v = 6;
  model.rotary_dims = 4;
  model.dense_width = 24;
  model.init_std = 0.2;
  const MoeConfig moe{.num_experts = 8,
                      .experts_per_token = 3,
                      .expert_width = 12,
                      .num_shared = 1,
                      .aux_loss = AuxLossScope::kSequence,
                      .aux_loss_coef = 0.01,
                      .z_loss_coef = 0.001};
  const NsaConfig nsa{.block = 8,
                      .stride = 4,
                      .select_block = 8,
                      .num_selected = 3,
                      .num_init = 1,
                      .num_local = 1,
                      .window = 6};
  return BuildModel(model, nsa, moe, recompute, dtype, 7, /*gradients=*/true, kCpu, {},
                    expert_group, /*expert_chunks=*/2);
}

// Samples [begin, end) of the batch, of two documents each. Returns the rank's part of the loss;
// gradients are left in the parameters.
Tensor Step(BuiltModel& built, int64_t begin, int64_t end, bool fire_hooks = false) {
  std::vector<int32_t> ids, targets, cu{0};
  for (int64_t sample = begin; sample < end; ++sample) {
    const Tensor drawn = test::RandomIds({kRows}, kVocabulary, static_cast<uint64_t>(sample));
    const int32_t* id = drawn.data<int32_t>();
    ids.insert(ids.end(), id, id + kRows);
    for (int64_t t = 0; t < kRows; ++t) targets.push_back(t + 1 < kRows ? id[t + 1] : -1);
    cu.push_back(cu.back() + 7 + 5 * static_cast<int32_t>(sample));
    cu.push_back(static_cast<int32_t>(ids.size()));
  }
  const PackedSequences sequences(cu);
  const auto rows = static_cast<int64_t>(ids.size());
  Tape tape;
  Metrics metrics;
  ForwardContext ctx{
      .tape = tape,
      .sequences = sequences,
      .metrics = &metrics,
      .rows_per_sample = kRows,
      .micro_batch_share = static_cast<double>(end - begin) / static_cast<double>(kSamples)};
  const LinearCrossEntropyResult result =
      built.model->Loss(ctx, Tensor::FromVector(ids, {rows}), Tensor::FromVector(targets, {rows}),
                        1.0 / static_cast<double>(kSamples * (kRows - 1)));
  tape.BackwardFrom(result.loss, fire_hooks);
  return result.loss.value();
}

void Check(Communicator& comm, AttentionKind attention, RecomputePolicy recompute) {
  SetNumThreads(1);
  BuiltModel one = Build(attention, {}, DType::kF64, nullptr),
             spread = Build(attention, recompute, DType::kF64, &comm);
  int ready = 0;
  for (Parameter* p : test::ParametersOf(*spread.model))
    p->on_grad_ready = [&](Parameter&) { ++ready; };
  const int64_t each = kSamples / comm.size();
  const Tensor expected = Step(one, 0, kSamples),
               loss =
                   Step(spread, comm.rank() * each, (comm.rank() + 1) * each, /*fire_hooks=*/true);
  comm.AllReduceSum(loss).Wait();
  EXPECT_TRUE(test::Close(loss, expected, 1e-12));
  const std::vector<Parameter*> of_one = test::ParametersOf(*one.model),
                                of_spread = test::ParametersOf(*spread.model);
  ASSERT_EQ(of_spread.size(), of_one.size());
  EXPECT_EQ(ready, static_cast<int>(of_spread.size()));
  for (size_t i = 0; i < of_one.size(); ++i) {
    const Parameter &whole = *of_one[i], &part = *of_spread[i];
    ASSERT_EQ(part.name, whole.name);
    ASSERT_EQ(part.global_shape(), whole.shape);
    const Tensor start = whole.value.View(part.first_element(), part.shape);
    EXPECT_TRUE(test::SameBits(part.value, start)) << part.name;
    Tensor gradient = Tensor::Zeros(whole.shape, part.grad.dtype());
    gradient.View(part.first_element(), part.shape).CopyFrom(part.grad);
    comm.AllReduceSum(gradient).Wait();
    EXPECT_TRUE(test::Close(gradient, whole.grad, 1e-12)) << part.name;
  }
}

struct Variant {
  const char* name;
  AttentionKind attention;
  RecomputePolicy recompute;
};
class ExpertParallelModel : public testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(
    All, ExpertParallelModel,
    testing::Values(Variant{"nsa", AttentionKind::kNsa, {}},
                    Variant{"nsa_feed_forward", AttentionKind::kNsa, {.feed_forward = true}},
                    Variant{"nsa_block", AttentionKind::kNsa, {.block = true}},
                    Variant{"nsa_block_keeps_attention",
                            AttentionKind::kNsa,
                            {.block = true, .keeps = RecomputeKeeps::kAttention}},
                    Variant{"full", AttentionKind::kFull, {}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_P(ExpertParallelModel, EqualsTheModelOnOneRank) {
  Check(test::World(), GetParam().attention, GetParam().recompute);
}

TEST_P(ExpertParallelModel, EqualsTheModelOnOneRankOverThreads) {
  if (test::World().rank() != 0) return;  // not a matter of MPI
  for (const int ranks : {2, 4}) {
    test::Mailbox box;
    box.delay = [](int from, int to, int tag) { return (from * 31 + to * 17 + tag * 7) % 23; };
    test::RunRanks(box, ranks, [](Communicator& comm) {
      Check(comm, GetParam().attention, GetParam().recompute);
    });
  }
}

}  // namespace
}  // namespace lacuna
