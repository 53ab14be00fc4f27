// Whole models in small: gradients, recompute, packing, decoding.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "nn/generation.h"
#include "recipes/model_builder.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

ModelConfig SmallModel(AttentionKind attention) {
  ModelConfig model;
  model.attention = attention;
  model.num_layers = 2;
  model.num_dense_layers = 1;
  model.width = 16;
  model.vocab_size = 40;
  model.num_heads = 4;
  model.num_groups = 2;
  model.head_dim_qk = 8;
  model.head_dim_v = 6;
  model.rotary_dims = 4;
  model.rope_theta = 100;
  model.dense_width = 24;
  model.init_std = 0.3;
  return model;
}

const NsaConfig kNsa{.block = 8,
                     .stride = 4,
                     .select_block = 16,
                     .num_selected = 4,
                     .num_init = 1,
                     .num_local = 2,
                     .window = 10};

MoeConfig SmallMoe() {
  MoeConfig moe;
  moe.num_experts = 4;
  moe.experts_per_token = 2;
  moe.expert_width = 12;
  moe.num_shared = 1;
  return moe;
}

BuiltModel Build(AttentionKind attention, DType dtype, RecomputePolicy recompute = {},
                 bool qk_norm = false, bool tied = false) {
  ModelConfig model = SmallModel(attention);
  model.qk_norm = qk_norm;
  model.tie_embeddings = tied;
  return BuildModel(model, kNsa, SmallMoe(), recompute, dtype, 7);
}

// Loss of `ids` predicting the next id within documents; gradients are left in the parameters.
Tensor LossAndGradients(BuiltModel& built, const PackedSequences& sequences, const Tensor& ids,
                        double scale) {
  std::vector<int32_t> targets(ids.data<int32_t>() + 1, ids.data<int32_t>() + ids.numel());
  targets.push_back(-1);
  for (size_t d = 1; d < sequences.host_cu_seqlens().size(); ++d) {
    if (sequences.host_cu_seqlens()[d] > sequences.host_cu_seqlens()[d - 1])
      targets[static_cast<size_t>(sequences.host_cu_seqlens()[d]) - 1] = -1;
  }
  Tape tape;
  ForwardContext ctx{.tape = tape, .sequences = sequences, .rows_per_sample = ids.numel()};
  const auto result =
      built.model->Loss(ctx, ids, Tensor::FromVector(targets, {ids.numel()}), scale);
  tape.BackwardFrom(result.loss);
  return result.row_loss;
}

class Models : public testing::TestWithParam<AttentionKind> {};

TEST_P(Models, GradCheck) {
  for (const bool option : {false, true}) {
    BuiltModel built = Build(GetParam(), DType::kF64, {}, /*qk_norm=*/option, /*tied=*/option);
    const PackedSequences sequences({0, 90, 97});
    const Tensor ids = test::RandomIds({97}, 40, 3), targets = test::RandomIds({97}, 40, 4);
    EXPECT_TRUE(test::GradCheck(
        [&](Tape& tape, const std::vector<Variable>&) {
          ForwardContext ctx{.tape = tape, .sequences = sequences, .rows_per_sample = 97};
          return std::vector<Variable>{built.model->Loss(ctx, ids, targets, 0.1).loss};
        },
        {}, test::ParametersOf(*built.model), {.max_elements = 6, .loss = true}));
  }
}

TEST_P(Models, RecomputeGivesTheSameBits) {
  const PackedSequences sequences({0, 61, 97});
  const Tensor ids = test::RandomIds({97}, 40, 3);
  BuiltModel plain = Build(GetParam(), DType::kF32);
  LossAndGradients(plain, sequences, ids, 0.01);
  for (const RecomputePolicy policy :
       {RecomputePolicy{.block = true}, RecomputePolicy{.attention = true},
        RecomputePolicy{.feed_forward = true},
        RecomputePolicy{.attention = true, .feed_forward = true}}) {
    BuiltModel recomputed = Build(GetParam(), DType::kF32, policy);
    LossAndGradients(recomputed, sequences, ids, 0.01);
    EXPECT_TRUE(test::SameBits(recomputed.parameters->grad(), plain.parameters->grad()));
    for (size_t i = 0; i < plain.moe_layers.size(); ++i) {
      EXPECT_TRUE(test::SameBits(recomputed.moe_layers[i]->step_counts(),
                                 plain.moe_layers[i]->step_counts()));
    }
  }
}

// Packed documents see nothing of each other: losses and gradients are those of the documents on
// their own.
TEST_P(Models, PackedEqualsSeparate) {
  const std::vector<int32_t> cu = {0, 61, 62, 97};
  const Tensor ids = test::RandomIds({97}, 40, 3);
  BuiltModel packed = Build(GetParam(), DType::kF64), separate = Build(GetParam(), DType::kF64);
  const Tensor together = LossAndGradients(packed, PackedSequences(cu), ids, 0.01);
  for (size_t d = 0; d + 1 < cu.size(); ++d) {
    const Tensor alone = LossAndGradients(separate, PackedSequences::Single(cu[d + 1] - cu[d]),
                                          ids.Slice(cu[d], cu[d + 1]), 0.01);
    EXPECT_TRUE(test::Close(together.Slice(cu[d], cu[d + 1]), alone, test::Tolerance(DType::kF64)));
  }
  EXPECT_TRUE(test::Close(packed.parameters->grad(), separate.parameters->grad(),
                          test::Tolerance(DType::kF64)));
}

TEST_P(Models, DecodeEqualsForward) {
  for (const bool qk_norm : {false, true}) {
    BuiltModel built = Build(GetParam(), DType::kF64, {}, qk_norm);
    const Tensor ids = test::RandomIds({150}, 40, 3);
    Tape tape(Tape::Mode::kInference);
    const PackedSequences sequences({0, 90, 150});
    ForwardContext ctx{.tape = tape, .sequences = sequences};
    const Tensor logits = built.model->Logits(ctx, ids);
    // Two sequences of different lengths in one batch; prompts of 37 and 1 tokens, then token by
    // token, then a piece of several.
    SequenceCache a = built.model->NewCache(), b = built.model->NewCache();
    const auto extend = [&](int64_t begin_a, int64_t end_a, int64_t begin_b, int64_t end_b) {
      std::vector<int32_t> piece(ids.data<int32_t>() + begin_a, ids.data<int32_t>() + end_a);
      piece.insert(piece.end(), ids.data<int32_t>() + 90 + begin_b,
                   ids.data<int32_t>() + 90 + end_b);
      const auto n = static_cast<int32_t>(piece.size());
      const Tensor out = built.model->Extend(
          Tensor::FromVector(piece, {n}),
          PackedSequences({0, static_cast<int32_t>(end_a - begin_a), n}), {&a, &b}, kCpuStream);
      ASSERT_TRUE(test::Close(out.Slice(0, 1), logits.Slice(end_a - 1, end_a),
                              test::Tolerance(DType::kF64)))
          << end_a;
      ASSERT_TRUE(test::Close(out.Slice(1, 2), logits.Slice(90 + end_b - 1, 90 + end_b),
                              test::Tolerance(DType::kF64)))
          << end_b;
    };
    extend(0, 37, 0, 1);
    for (int64_t t = 0; t < 50; ++t) extend(37 + t, 38 + t, 1 + t, 2 + t);
    extend(87, 90, 51, 60);
  }
}

// A batch gives each prompt the tokens it gets alone, greedily and sampled.
TEST_P(Models, GenerationIsIndependentOfTheBatch) {
  BuiltModel built = Build(GetParam(), DType::kF64);
  const std::vector<std::vector<int32_t>> prompts = {
      {1, 2, 3}, {7}, {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}};
  for (const double temperature : {0.0, 1.0}) {
    const GenerationOptions options{
        .max_tokens = 20,
        .stop_ids = {},
        .sampling = {.temperature = temperature, .top_p = 0.9, .seed = 3}};
    const auto together = Generate(*built.model, prompts, options);
    EXPECT_EQ(together[0], Generate(*built.model, {prompts[0]}, options)[0]);
    EXPECT_EQ(together, Generate(*built.model, prompts, options));
    for (const auto& tokens : together) EXPECT_EQ(tokens.size(), 20u);
    // Two at a time; sequences that end leave their place to the next.
    GenerationOptions stopping = options;
    stopping.stop_ids = {together[0][3], together[1][7]};
    const auto whole = Generate(*built.model, prompts, stopping);
    EXPECT_LE(whole[0].size(), 4u);
    stopping.batch = 2;
    std::vector<std::vector<int32_t>> seen(prompts.size());
    EXPECT_EQ(whole, Generate(*built.model, prompts, stopping, [&](int64_t i, int32_t token) {
                seen[static_cast<size_t>(i)].push_back(token);
              }));
    EXPECT_EQ(seen, whole);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Models, testing::Values(AttentionKind::kFull, AttentionKind::kNsa),
                         [](const auto& info) {
                           return info.param == AttentionKind::kFull ? "full" : "nsa";
                         });

// The twins of a recipe start from the same values wherever they have the same parameter.
TEST(ModelBuilder, TwinsShareTheirStart) {
  BuiltModel full = Build(AttentionKind::kFull, DType::kF32),
             nsa = Build(AttentionKind::kNsa, DType::kF32);
  std::map<std::string, Tensor> of_full;
  for (Parameter* p : test::ParametersOf(*full.model)) of_full[p->name] = p->value;
  int shared = 0;
  for (Parameter* p : test::ParametersOf(*nsa.model)) {
    if (of_full.count(p->name) == 0) continue;
    EXPECT_TRUE(test::SameBits(p->value, of_full.at(p->name))) << p->name;
    ++shared;
  }
  // all but k_proj and v_proj of two layers
  EXPECT_EQ(shared, static_cast<int>(of_full.size()) - 4);
}

// A model that is only run forward has the same values and no gradient buffers.
TEST(ModelBuilder, WithoutGradients) {
  const ModelConfig config = SmallModel(AttentionKind::kNsa);
  BuiltModel with = Build(AttentionKind::kNsa, DType::kF32),
             without =
                 BuildModel(config, kNsa, SmallMoe(), {}, DType::kF32, 7, /*gradients=*/false);
  EXPECT_FALSE(without.parameters->grad().defined());
  for (Parameter* p : test::ParametersOf(*without.model))
    EXPECT_FALSE(p->grad.defined()) << p->name;
  EXPECT_TRUE(test::SameBits(without.parameters->value(), with.parameters->value()));
  const std::vector<std::vector<int32_t>> prompts = {{1, 2, 3}, {4}};
  GenerationOptions options;
  options.max_tokens = 20;
  EXPECT_EQ(Generate(*without.model, prompts, options), Generate(*with.model, prompts, options));
}

}  // namespace
}  // namespace lacuna
