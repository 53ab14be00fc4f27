// What recomputed segments compute a second time, by the kernels that they call, and that losses and
// gradients have the bits that they have without.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "core/kernel.h"
#include "recipes/model_builder.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

constexpr int32_t kRows = 97;

// A dense block and one with experts.
BuiltModel Build(AttentionKind attention, DType dtype, const RecomputePolicy& recompute) {
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
  model.dense_width = 24;
  model.init_std = 0.3;
  const NsaConfig nsa{.block = 8,
                      .stride = 4,
                      .select_block = 16,
                      .num_selected = 4,
                      .num_init = 1,
                      .num_local = 2,
                      .window = 10,
                      .phi = PhiKind::kMean};
  const MoeConfig moe{
      .num_experts = 4, .experts_per_token = 2, .expert_width = 12, .num_shared = 1};
  return BuildModel(model, nsa, moe, recompute, dtype, 7);
}

// Calls by kernel.
class CallCounter : public KernelObserver {
 public:
  void OnCall(const KernelCall& call, const std::function<void()>& run) override {
    ++calls_[call.name];
    run();
  }
  int64_t of(const std::string& name) const {
    const auto found = calls_.find(name);
    return found == calls_.end() ? 0 : found->second;
  }

 private:
  std::map<std::string, int64_t> calls_;
};

// A step on packed documents.
struct Step {
  Step(AttentionKind attention, DType dtype, const RecomputePolicy& recompute)
      : built(Build(attention, dtype, recompute)) {
    const PackedSequences sequences({0, 61, kRows});
    const ObserveKernels observe(calls);
    Tape tape;
    ForwardContext ctx{.tape = tape, .sequences = sequences, .rows_per_sample = kRows};
    const auto result = built.model->Loss(ctx, test::RandomIds({kRows}, 40, 3),
                                          test::RandomIds({kRows}, 40, 4), 0.01);
    row_loss = result.row_loss;
    tape.BackwardFrom(result.loss);
  }

  BuiltModel built;
  CallCounter calls;
  Tensor row_loss;
};

constexpr RecomputeKeeps kAttention = RecomputeKeeps::kAttention;

class Recomputed : public testing::TestWithParam<AttentionKind> {};

TEST_P(Recomputed, HasTheSameBits) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Step plain(GetParam(), dtype, {});
    for (const RecomputePolicy& policy :
         {RecomputePolicy{.block = true}, RecomputePolicy{.attention = true},
          RecomputePolicy{.feed_forward = true},
          RecomputePolicy{.attention = true, .feed_forward = true},
          RecomputePolicy{.block = true, .keeps = kAttention},
          RecomputePolicy{.attention = true, .keeps = kAttention},
          RecomputePolicy{.attention = true, .feed_forward = true, .keeps = kAttention}}) {
      const Step again(GetParam(), dtype, policy);
      EXPECT_TRUE(test::SameBits(again.row_loss, plain.row_loss));
      EXPECT_TRUE(test::SameBits(again.built.parameters->grad(), plain.built.parameters->grad()));
      EXPECT_TRUE(test::SameBits(again.built.moe_layers[0]->step_counts(),
                                 plain.built.moe_layers[0]->step_counts()));
    }
  }
}

// By hand, of a layer: q, k and v of one branch or three (and gates), then o, which ends attention;
// gate_up, then down, which ends a dense block; the router and the shared gate_up, then the shared
// down and the experts' down, the way home and the sum of both, which end a block with experts.
TEST_P(Recomputed, CallsWhatIsReadAndNotKept) {
  const bool nsa = GetParam() == AttentionKind::kNsa;
  const int64_t attention = nsa ? 8 : 3, branches = nsa ? 2 : 1;  // without the selected one
  struct Case {
    RecomputePolicy policy;
    int64_t matmul, segments_of_attention, of_experts;
  };
  for (const Case& c :
       {Case{{.block = true}, 2 * (attention + 1) + 1 + 2, 2, 1},
        Case{{.attention = true}, 2 * attention, 2, 0}, Case{{.feed_forward = true}, 1 + 2, 0, 1},
        Case{{.attention = true, .feed_forward = true}, 2 * attention + 3, 2, 1}}) {
    for (const bool keeps : {false, true}) {
      RecomputePolicy policy = c.policy;
      policy.keeps = keeps ? kAttention : RecomputeKeeps::kNothing;
      const Step plain(GetParam(), DType::kF32, {}), again(GetParam(), DType::kF32, policy);
      const auto more = [&](const char* kernel) {
        return again.calls.of(kernel) - plain.calls.of(kernel);
      };
      ASSERT_EQ(plain.calls.of("attention_fwd"), 2 * branches);
      EXPECT_EQ(more("matmul"), c.matmul);
      EXPECT_EQ(more("add"), 0);
      EXPECT_EQ(more("grouped_swiglu"), c.of_experts);
      EXPECT_EQ(more("grouped_matmul"), 0);
      EXPECT_EQ(more("unpermute_rows"), 0);
      EXPECT_EQ(more("choose_experts"), 0);
      const int64_t attends = keeps ? 0 : c.segments_of_attention;
      EXPECT_EQ(more("attention_fwd"), attends * branches);
      EXPECT_EQ(more("select_blocks"), 0);
      EXPECT_EQ(more("selected_attention_gated_fwd"), nsa ? attends : 0);
      EXPECT_EQ(more("gate_combine_fwd"), nsa ? c.segments_of_attention - attends : 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Attention, Recomputed,
                         testing::Values(AttentionKind::kNsa, AttentionKind::kFull),
                         [](const auto& info) {
                           return std::string(info.param == AttentionKind::kNsa ? "Nsa" : "Full");
                         });

}  // namespace
}  // namespace lacuna
