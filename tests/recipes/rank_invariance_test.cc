// The same training steps however the global batch is cut: 1, 2 or 4 ranks, one or several samples
// a micro-batch. 20 steps in f64 agree to 1e-12. One process takes every step with one rank, too,
// and compares.
#include <gtest/gtest.h>

#include <cmath>

#include "core/parallel.h"
#include "distributed/gradient_reducer.h"
#include "recipes/trainer/training_step.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

constexpr int64_t kRows = 48, kGlobalBatch = 8, kSteps = 20, kVocabulary = 50;

struct Variant {
  AttentionKind attention;
  RouterKind router;
  AuxLossScope aux_loss;
  const char* name;
};

BuiltModel Build(const Variant& variant) {
  ModelConfig model;
  model.attention = variant.attention;
  model.num_layers = 2;
  model.num_dense_layers = 1;
  model.width = 16;
  model.vocab_size = kVocabulary;
  model.num_heads = 4;
  model.num_groups = 2;
  model.head_dim_qk = 8;
  model.head_dim_v = 4;
  model.rotary_dims = 4;
  model.dense_width = 24;
  model.init_std = 0.2;
  MoeConfig moe{.num_experts = 4, .experts_per_token = 2, .expert_width = 8, .num_shared = 1};
  moe.router = variant.router;
  moe.aux_loss = variant.aux_loss;
  if (variant.aux_loss != AuxLossScope::kNone) moe.aux_loss_coef = 0.01;
  moe.z_loss_coef = 0.001;
  const NsaConfig nsa{.block = 8,
                      .stride = 4,
                      .select_block = 8,
                      .num_selected = 3,
                      .num_init = 1,
                      .num_local = 1,
                      .window = 6};
  return BuildModel(model, nsa, moe, {}, DType::kF64, 3);
}

// Samples of unequal numbers of targets: documents of different lengths, some rows masked.
Batch MakeBatch(const std::vector<int64_t>& samples) {
  Batch batch;
  std::vector<int32_t> ids, targets, cu{0};
  for (const int64_t sample : samples) {
    const Tensor drawn = test::RandomIds({kRows}, kVocabulary, static_cast<uint64_t>(100 + sample));
    const int32_t* id = drawn.data<int32_t>();
    const auto cut = static_cast<int32_t>(5 + 7 * (sample % 6));
    for (int32_t t = 0; t < kRows; ++t) {
      ids.push_back(id[t]);
      const bool masked = t + 1 == cut || t + 1 == kRows || (sample % 3 == 0 && t % 4 == 0);
      targets.push_back(masked ? -1 : id[t + 1]);
      batch.num_target_tokens += masked ? 0 : 1;
    }
    cu.push_back(cu.back() + cut);
    cu.push_back(static_cast<int32_t>(ids.size()));
  }
  const auto n = static_cast<int64_t>(ids.size());
  batch.ids = Tensor::FromVector(ids, {n});
  batch.targets = Tensor::FromVector(targets, {n});
  batch.sequences = PackedSequences(cu);
  batch.tokens_per_source = {n};
  batch.source_of_sample.assign(samples.size(), 0);
  return batch;
}

struct Trace {
  std::vector<double> losses, norms;
  std::vector<double> weights, bias;
};

Trace TrainSteps(const Variant& variant, Communicator& comm, int64_t micro_batch) {
  BuiltModel built = Build(variant);
  AdamW optimizer(*built.parameters, {});
  GradientReducer reducer(*built.parameters, comm, 1 << 12);
  TrainingStep step(built, optimizer, reducer, comm, 0.5, kRows);
  Trace trace;
  for (int64_t s = 0; s < kSteps; ++s) {
    std::vector<Batch> batches;
    for (int64_t i = 0; i < kGlobalBatch / comm.size() / micro_batch; ++i) {
      std::vector<int64_t> samples;
      for (int64_t j = 0; j < micro_batch; ++j)
        samples.push_back(s * kGlobalBatch + (i * comm.size() + comm.rank()) * micro_batch + j);
      batches.push_back(MakeBatch(samples));
    }
    const StepResult result = step.Run(batches, 1e-3, nullptr);
    EXPECT_EQ(result.skipped, "");
    trace.losses.push_back(result.loss);
    trace.norms.push_back(result.gradient_norm);
  }
  trace.weights = built.parameters->master().ToDoubles();
  built.model->ForEachBuffer([&](const std::string&, Tensor& buffer) {
    for (const double b : buffer.ToDoubles()) trace.bias.push_back(b);
  });
  return trace;
}

class RankInvariance : public testing::TestWithParam<Variant> {};

TEST_P(RankInvariance, TwentySteps) {
  SetNumThreads(1);
  const auto self = MakeSelfCommunicator();
  const Trace one = TrainSteps(GetParam(), *self, 1);
  EXPECT_LT(one.losses.back(), one.losses.front()) << "nothing is learnt";
  const Trace many = TrainSteps(GetParam(), test::World(), 1);
  EXPECT_TRUE(test::Close(many.losses, one.losses, 1e-12));
  EXPECT_TRUE(test::Close(many.norms, one.norms, 1e-12));
  EXPECT_TRUE(test::Close(many.weights, one.weights, 1e-12));
  EXPECT_TRUE(test::Close(many.bias, one.bias, 0));
}

// The cut into micro-batches plays no part where no loss is a mean over micro-batches.
class MicroBatchInvariance : public testing::TestWithParam<Variant> {};

TEST_P(MicroBatchInvariance, TwentySteps) {
  SetNumThreads(1);
  const auto self = MakeSelfCommunicator();
  const Trace one = TrainSteps(GetParam(), *self, 1),
              two = TrainSteps(GetParam(), test::World(), 2);
  EXPECT_TRUE(test::Close(two.losses, one.losses, 1e-12));
  EXPECT_TRUE(test::Close(two.weights, one.weights, 1e-12));
}

// The same run twice gives the same bits.
TEST_P(RankInvariance, Reproducible) {
  SetNumThreads(1);
  const Trace a = TrainSteps(GetParam(), test::World(), 1),
              b = TrainSteps(GetParam(), test::World(), 1);
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.weights, b.weights);
}

constexpr Variant kNsaSigmoid{AttentionKind::kNsa, RouterKind::kSigmoid, AuxLossScope::kNone,
                              "nsa_sigmoid"};
constexpr Variant kFullMicroBatch{AttentionKind::kFull, RouterKind::kSoftmax,
                                  AuxLossScope::kMicroBatch, "full_softmax_micro_batch"};
constexpr Variant kFullSequence{AttentionKind::kFull, RouterKind::kSoftmax, AuxLossScope::kSequence,
                                "full_softmax_sequence"};

INSTANTIATE_TEST_SUITE_P(All, RankInvariance,
                         testing::Values(kNsaSigmoid, kFullMicroBatch, kFullSequence),
                         [](const auto& info) { return info.param.name; });
// A loss that is a mean over micro-batches depends on their number, so that variant has no place
// here.
INSTANTIATE_TEST_SUITE_P(All, MicroBatchInvariance, testing::Values(kNsaSigmoid, kFullSequence),
                         [](const auto& info) { return info.param.name; });

// A batch without any target and one whose gradients are not finite leave the weights as they were.
TEST(SkippedSteps, WeightsStay) {
  BuiltModel built = Build({AttentionKind::kNsa, RouterKind::kSigmoid, AuxLossScope::kNone, ""});
  AdamW optimizer(*built.parameters, {});
  GradientReducer reducer(*built.parameters, test::World());
  TrainingStep step(built, optimizer, reducer, test::World(), 0.5, kRows);
  const std::vector<double> before = built.parameters->master().ToDoubles();
  Batch masked = MakeBatch({test::World().rank()});
  masked.targets = Tensor::FromVector(std::vector<int32_t>(kRows, -1), {kRows});
  masked.num_target_tokens = 0;
  EXPECT_NE(step.Run({masked}, 1e-3, nullptr).skipped.find("no token"), std::string::npos);
  EXPECT_EQ(built.parameters->master().ToDoubles(), before);

  Parameter* poisoned = nullptr;
  built.model->ForEachParameter([&](Parameter& p) {
    poisoned = p.name == "layers.1.self_attn.o_proj.weight" ? &p : poisoned;
  });
  ASSERT_NE(poisoned, nullptr);
  const double good = poisoned->value.data<double>()[0];
  poisoned->value.mutable_data<double>()[0] = NAN;
  const StepResult result = step.Run({MakeBatch({test::World().rank()})}, 1e-3, nullptr);
  EXPECT_NE(result.skipped.find("is not finite"), std::string::npos);
  poisoned->value.mutable_data<double>()[0] = good;
  EXPECT_EQ(built.parameters->master().ToDoubles(), before);
  EXPECT_EQ(optimizer.num_updates(), 0);
}

}  // namespace
}  // namespace lacuna
