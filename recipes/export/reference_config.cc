#include "recipes/export/reference_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/status.h"
#include "data/strict_json.h"

namespace lacuna {
namespace {

using nlohmann::json;

// Takes keys as they are; what is missing or of another type throws json::exception.
void ReadRotary(const json& config, ReferenceConfig* out) {
  json rope = config.value("rope_parameters", json());
  if (rope.is_null()) rope = config.value("rope_scaling", json());
  if (rope.is_null()) rope = json::object();
  const double theta = rope.contains("rope_theta") ? rope["rope_theta"].get<double>()
                                                   : config.at("rope_theta").get<double>();
  const double partial = rope.contains("partial_rotary_factor")
                             ? rope["partial_rotary_factor"].get<double>()
                             : config.at("partial_rotary_factor").get<double>();
  const int dims = static_cast<int>(static_cast<double>(out->key_width) * partial);
  for (int i = 0; i < dims / 2; ++i)
    out->inverse_frequencies.push_back(1.0 / std::pow(theta, 2.0 * i / dims));
  if (rope.value("rope_type", "default") != "yarn") return;

  const double factor = rope.at("factor").get<double>(),
               original = rope.at("original_max_position_embeddings").get<double>();
  // Between these pairs the frequencies go over from theirs to those of interpolation.
  const auto pair_with_turns = [&](double turns) {
    return dims * std::log(original / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(theta));
  };
  const double first = std::max(std::floor(pair_with_turns(rope.value("beta_fast", 32.0))), 0.0);
  double last = std::min(std::ceil(pair_with_turns(rope.value("beta_slow", 1.0))), dims - 1.0);
  if (first == last) last += 0.001;
  for (int i = 0; i < dims / 2; ++i) {
    const double slow = std::min(1.0, std::max(0.0, (i - first) / (last - first)));
    double& frequency = out->inverse_frequencies[static_cast<size_t>(i)];
    frequency = (1.0 - slow) * frequency + slow * frequency / factor;
  }
  out->yarn_factor = factor;
  out->attention_factor = rope.contains("attention_factor") ? rope["attention_factor"].get<double>()
                                                            : 1.0 + 0.1 * std::log(factor);
}

void ReadSparse(const json& nsa, ReferenceConfig* out) {
  out->block = nsa.at("compress_block");
  out->stride = nsa.at("compress_stride");
  out->select_block = nsa.at("select_block");
  out->select_topk = nsa.at("select_topk");
  out->init_blocks = nsa.at("init_blocks");
  out->local_blocks = nsa.at("local_blocks");
  out->window = nsa.at("window");
  out->phi = nsa.at("phi");
  out->phi_hidden = nsa.at("phi_hidden");
  out->phi_activation = nsa.at("phi_activation");
}

ReferenceConfig Read(const json& config) {
  const bool glm = config.at("model_type") == "glm4_moe";
  ReferenceConfig out;
  out.vocabulary = config.at("vocab_size");
  out.width = config.at("hidden_size");
  out.dense_width = config.at("intermediate_size");
  out.layers = config.at("num_hidden_layers");
  out.dense_layers = config.at("first_k_dense_replace");
  out.heads = config.at("num_attention_heads");
  out.groups = config.at("num_key_value_heads");
  out.key_width = config.at("head_dim");
  out.value_width = glm ? out.key_width : config.at("v_head_dim").get<int64_t>();
  out.experts = config.at("n_routed_experts");
  out.experts_per_token = config.at("num_experts_per_tok");
  out.expert_width = config.at("moe_intermediate_size");
  out.shared_experts = config.at("n_shared_experts");
  out.normalize_weights = config.at("norm_topk_prob");
  out.routed_scale = config.at("routed_scaling_factor");
  out.eps = config.at("rms_norm_eps");
  out.qk_norm = config.at("use_qk_norm");
  out.tied = config.at("tie_word_embeddings");
  out.max_positions = config.at("max_position_embeddings");
  out.softmax_router = !glm && config.at("scoring_func") == "softmax";
  out.nsa = !glm && config.at("attention") == "nsa";
  if (out.nsa) ReadSparse(config.at("nsa_config"), &out);
  ReadRotary(config, &out);
  return out;
}

}  // namespace

absl::StatusOr<ReferenceConfig> ReadReferenceConfig(const std::string& folder) {
  const std::string path = folder + "/config.json";
  LACUNA_ASSIGN_OR_RETURN(const json config, ReadStrictJson(path, 1 << 24, 16));
  try {
    return Read(config);
  } catch (const json::exception& error) {
    return DataError("{}: {}", path, error.what());
  }
}

}  // namespace lacuna
