#include "recipes/export/hf_config.h"

#include <cmath>

#include "core/error.h"
#include "core/status.h"
#include "recipes/schema/recipe_keys.h"

namespace lacuna {
namespace {

using nlohmann::ordered_json;

constexpr char kOtherWay[] = "--architecture nsa_moe exports it with its own PyTorch code";

double AttentionFactor(double factor) {
  return factor > 1 ? 0.1 * std::log(factor) + 1 : 1.0;
}

// Scaling of the frequencies, without theta and the share of rotary dims.
ordered_json RopeScaling(const YarnConfig& yarn) {
  if (yarn.factor == 1) return {{"rope_type", "default"}};
  return {{"rope_type", "yarn"},
          {"factor", yarn.factor},
          {"original_max_position_embeddings", yarn.original_length},
          {"beta_fast", yarn.beta_fast},
          {"beta_slow", yarn.beta_slow},
          {"attention_factor", AttentionFactor(yarn.factor)}};
}

void AddRope(const ModelConfig& model, int generation, ordered_json* config) {
  const double partial = PartialRotaryFactor(model.rotary_dims, model.head_dim_qk);
  // Readers look here or there for these two.
  (*config)["rope_theta"] = model.rope_theta;
  (*config)["partial_rotary_factor"] = partial;
  ordered_json scaling = RopeScaling(model.yarn);
  if (generation == 4) {
    if (model.yarn.factor != 1) (*config)["rope_scaling"] = scaling;
    return;
  }
  scaling["rope_theta"] = model.rope_theta;
  scaling["partial_rotary_factor"] = partial;
  (*config)["rope_parameters"] = scaling;
}

void AddExperts(const Recipe& recipe, ordered_json* config) {
  const MoeConfig& moe = recipe.moe;
  (*config)["moe_intermediate_size"] = moe.expert_width;
  (*config)["n_routed_experts"] = moe.num_experts;
  (*config)["n_shared_experts"] = moe.num_shared;
  (*config)["num_experts_per_tok"] = moe.experts_per_token;
  (*config)["first_k_dense_replace"] = recipe.model.num_dense_layers;
  (*config)["norm_topk_prob"] = moe.normalize_weights;
  (*config)["routed_scaling_factor"] = moe.routed_scale;
}

void AddNsaMoe(const Recipe& recipe, ordered_json* config) {
  const NsaConfig& nsa = recipe.nsa;
  (*config)["v_head_dim"] = recipe.model.head_dim_v;
  (*config)["attention"] = ValueText(recipe.model.attention);
  (*config)["scoring_func"] = ValueText(recipe.moe.router);
  (*config)["auto_map"] = {{"AutoConfig", "configuration_nsa_moe.NsaMoeConfig"},
                           {"AutoModel", "modeling_nsa_moe.NsaMoeModel"},
                           {"AutoModelForCausalLM", "modeling_nsa_moe.NsaMoeForCausalLM"}};
  if (!recipe.uses_nsa()) return;
  (*config)["nsa_config"] = {{"compress_block", nsa.block},
                             {"compress_stride", nsa.stride},
                             {"select_block", nsa.select_block},
                             {"select_topk", nsa.num_selected},
                             {"init_blocks", nsa.num_init},
                             {"local_blocks", nsa.num_local},
                             {"window", nsa.window},
                             {"phi", ValueText(nsa.phi)},
                             {"phi_hidden", nsa.phi_hidden},
                             {"phi_activation", ValueText(nsa.activation)},
                             {"shared_kv", false},
                             {"gate", "sigmoid"}};
}

}  // namespace

absl::Status CheckExpressible(const Recipe& recipe, ExportArchitecture architecture) {
  if (architecture == ExportArchitecture::kNsaMoe) return absl::OkStatus();
  if (recipe.uses_nsa()) {
    return ConfigError(
        "model.attention = nsa: glm4_moe has full attention only, which gives other results; {}",
        kOtherWay);
  }
  if (recipe.model.head_dim_v > recipe.model.head_dim_qk) {
    return ConfigError(
        "model.head_dim_v = {}: glm4_moe has value heads of model.head_dim_qk = {} at most; {}",
        recipe.model.head_dim_v, recipe.model.head_dim_qk, kOtherWay);
  }
  if (!recipe.uses_moe()) return absl::OkStatus();
  if (recipe.moe.router == RouterKind::kSoftmax) {
    return ConfigError(
        "moe.router = softmax: the router of glm4_moe is sigmoid, which gives other results; {}",
        kOtherWay);
  }
  if (recipe.moe.num_shared == 0) {
    return ConfigError("moe.num_shared = 0: glm4_moe has at least one shared expert; {}",
                       kOtherWay);
  }
  if (recipe.moe.num_experts < 2) {
    return ConfigError("moe.num_experts = 1: glm4_moe has at least two; {}", kOtherWay);
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> MaxPositions(const Recipe& recipe) {
  const YarnConfig& yarn = recipe.model.yarn;
  if (yarn.factor == 1) return recipe.train.sequence_length;
  const double positions = yarn.factor * static_cast<double>(yarn.original_length);
  if (positions != std::floor(positions) || positions > INT32_MAX) {
    return ConfigError(
        "model.yarn.factor = {}: times model.yarn.original_length = {} is {}; an export needs a "
        "whole number of positions below 2^31",
        yarn.factor, yarn.original_length, positions);
  }
  return static_cast<int64_t>(positions);
}

double PartialRotaryFactor(int64_t rotary_dims, int64_t head_dim) {
  const double width = static_cast<double>(head_dim);
  double factor = static_cast<double>(rotary_dims) / width;
  // 63.99999 would be cut to 63.
  while (static_cast<int64_t>(width * factor) < rotary_dims) factor = std::nextafter(factor, 2.0);
  LACUNA_CHECK(static_cast<int64_t>(width * factor) == rotary_dims && rotary_dims % 2 == 0,
               "{} of {} dims are no even number of rotary dims", rotary_dims, head_dim);
  return factor;
}

absl::StatusOr<ordered_json> HfConfig(const Recipe& recipe, ExportArchitecture architecture,
                                      DType dtype, int generation, const SpecialIds& ids) {
  LACUNA_RETURN_IF_ERROR(CheckExpressible(recipe, architecture));
  LACUNA_ASSIGN_OR_RETURN(const int64_t max_positions, MaxPositions(recipe));
  const ModelConfig& model = recipe.model;
  const bool glm = architecture == ExportArchitecture::kGlm4Moe;
  const char* type = dtype == DType::kBF16 ? "bfloat16" : "float32";
  ordered_json config = {{"architectures", {glm ? "Glm4MoeForCausalLM" : "NsaMoeForCausalLM"}},
                         {"model_type", glm ? "glm4_moe" : "nsa_moe"},
                         {"dtype", type},
                         {"torch_dtype", type},
                         {"vocab_size", model.vocab_size},
                         {"hidden_size", model.width},
                         {"intermediate_size", model.dense_width},
                         {"num_hidden_layers", model.num_layers},
                         {"num_attention_heads", model.num_heads},
                         {"num_key_value_heads", model.num_groups},
                         {"head_dim", model.head_dim_qk},
                         {"use_qk_norm", model.qk_norm},
                         {"max_position_embeddings", max_positions},
                         {"hidden_act", "silu"},
                         {"rms_norm_eps", model.norm_eps},
                         {"initializer_range", model.init_std},
                         {"tie_word_embeddings", model.tie_embeddings},
                         {"use_cache", true},
                         {"bos_token_id", ids.bos},
                         {"eos_token_id", {ids.eos}},
                         {"pad_token_id", ids.pad}};
  AddExperts(recipe, &config);
  if (glm) {
    config["n_group"] = 1;
    config["topk_group"] = 1;
    config["attention_bias"] = false;
    config["attention_dropout"] = 0.0;
    config["num_nextn_predict_layers"] = 0;
  } else {
    AddNsaMoe(recipe, &config);
  }
  AddRope(model, generation, &config);
  return config;
}

}  // namespace lacuna
