#include "recipes/model_builder.h"

#include <cmath>
#include <utility>

#include "nn/gqa_attention.h"
#include "nn/swiglu_ffn.h"
#include "nsa/nsa_attention.h"

namespace lacuna {

RopeSpec RopeSpecOf(const ModelConfig& model) {
  return {.rotary_dims = model.rotary_dims,
          .theta = model.rope_theta,
          .yarn_factor = model.yarn.factor,
          .yarn_original_length = model.yarn.original_length,
          .yarn_beta_fast = model.yarn.beta_fast,
          .yarn_beta_slow = model.yarn.beta_slow};
}

BuiltModel BuildModel(const ModelConfig& model, const NsaConfig& nsa, const MoeConfig& moe,
                      RecomputePolicy recompute, DType dtype, uint64_t seed, bool gradients,
                      Device device, const Sharding& sharding, Communicator* expert_group,
                      int64_t expert_chunks) {
  BuiltModel built;
  built.rope = std::make_shared<RopeTable>(RopeSpecOf(model), dtype, device);
  const double out_std = model.init_std / std::sqrt(2.0 * static_cast<double>(model.num_layers));
  const AttentionSpec spec{.width = model.width,
                           .num_heads = model.num_heads,
                           .num_groups = model.num_groups,
                           .head_dim_qk = model.head_dim_qk,
                           .head_dim_v = model.head_dim_v,
                           .qk_norm = model.qk_norm,
                           .norm_eps = model.norm_eps,
                           .init_std = model.init_std,
                           .out_std = out_std,
                           .rope = built.rope};
  std::vector<std::unique_ptr<TransformerBlock>> blocks;
  for (int64_t i = 0; i < model.num_layers; ++i) {
    std::unique_ptr<Attention> attention;
    if (model.attention == AttentionKind::kNsa) {
      attention = std::make_unique<NsaAttention>(spec, nsa);
    } else {
      attention = std::make_unique<GqaAttention>(spec);
    }
    std::unique_ptr<FeedForward> feed_forward;
    if (i < model.num_dense_layers) {
      feed_forward =
          std::make_unique<SwiGluFfn>(model.width, model.dense_width, model.init_std, out_std);
    } else {
      auto layer = std::make_unique<MoeLayer>(model.width, moe, model.init_std, out_std, dtype,
                                              device, expert_group, expert_chunks);
      built.moe_layers.push_back(layer.get());
      feed_forward = std::move(layer);
    }
    blocks.push_back(std::make_unique<TransformerBlock>(
        model.width, model.norm_eps, std::move(attention), std::move(feed_forward), recompute));
  }
  built.model =
      std::make_unique<LanguageModel>(model.vocab_size, model.width, model.norm_eps, model.init_std,
                                      model.tie_embeddings, std::move(blocks));
  built.model->SetName("");
  built.parameters =
      std::make_unique<FlatParameters>(*built.model, dtype, seed, gradients, device, sharding);
  return built;
}

}  // namespace lacuna
