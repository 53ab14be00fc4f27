// ReadHfConfig: a model's sections of a recipe from config.json.
#include <cmath>

#include "core/status.h"
#include "data/strict_json.h"
#include "recipes/export/hf_config.h"
#include "recipes/schema/recipe_keys.h"

namespace lacuna {
namespace {

using nlohmann::json;

// Typed keys of an object; the first that is missing or wrong is remembered.
class Keys {
 public:
  Keys(const json& object, std::string place) : object_(object), place_(std::move(place)) {}

  const absl::Status& status() const { return failure_; }

  void Int(const char* key, int64_t* value) {
    const json* found = Find(key, "a whole number");
    if (found == nullptr) return;
    if (!found->is_number_integer()) return Wrong(key, *found, "a whole number");
    *value = found->get<int64_t>();
  }
  void Double(const char* key, double* value) {
    const json* found = Find(key, "a number");
    if (found == nullptr) return;
    if (!found->is_number()) return Wrong(key, *found, "a number");
    *value = found->get<double>();
  }
  void Bool(const char* key, bool* value) {
    const json* found = Find(key, "true or false");
    if (found == nullptr) return;
    if (!found->is_boolean()) return Wrong(key, *found, "true or false");
    *value = found->get<bool>();
  }
  template <class E>
  void Enum(const char* key, E* value) {
    const json* found = Find(key, TypeText(E{}));
    if (found == nullptr) return;
    for (const auto& [name, e] : NamesOf<E>()) {
      if (*found != name) continue;
      *value = e;
      return;
    }
    Wrong(key, *found, TypeText(E{}));
  }
  // What the model computes with must be the one thing that Lacuna does; absent is as good.
  void Only(const char* key, const json& allowed) {
    if (object_.contains(key) && !object_[key].is_null() && object_[key] != allowed)
      Wrong(key, object_[key], Shown(allowed));
  }
  void Wrong(const char* key, const json& found, const std::string& expected) {
    if (failure_.ok())
      failure_ = DataError("{}: {}: found {}, expected {}", place_, key, Shown(found), expected);
  }
  bool Has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }

 private:
  const json* Find(const char* key, const std::string& expected) {
    if (!failure_.ok()) return nullptr;
    if (Has(key)) return &object_[key];
    failure_ = DataError("{}: {}: missing, expected {}", place_, key, expected);
    return nullptr;
  }

  const json& object_;
  std::string place_;
  absl::Status failure_;
};

absl::Status ReadYarn(const json& rope, const std::string& place, YarnConfig* yarn) {
  Keys keys(rope, place);
  keys.Double("factor", &yarn->factor);
  keys.Int("original_max_position_embeddings", &yarn->original_length);
  if (keys.Has("beta_fast")) keys.Double("beta_fast", &yarn->beta_fast);
  if (keys.Has("beta_slow")) keys.Double("beta_slow", &yarn->beta_slow);
  keys.Only("truncate", true);
  const double expected = 0.1 * std::log(yarn->factor) + 1;
  double given = expected;
  if (keys.Has("attention_factor")) keys.Double("attention_factor", &given);
  if (std::abs(given - expected) > 1e-6)
    keys.Wrong("attention_factor", given, fmt::format("0.1 ln(factor) + 1 = {}", expected));
  keys.Only("mscale", nullptr);
  keys.Only("mscale_all_dim", nullptr);
  return keys.status();
}

// rope_parameters, or rope_scaling (which may be null) beside rope_theta and partial_rotary_factor.
absl::Status ReadRope(const json& config, const std::string& path, ModelConfig* model) {
  const json none = json::object();
  const auto object = [&](const char* key) -> const json& {
    return config.contains(key) && config[key].is_object() ? config[key] : none;
  };
  const json &parameters = object("rope_parameters"), &scaling = object("rope_scaling");
  const json& rope = parameters.empty() ? scaling : parameters;
  const std::string place = path + (parameters.empty() ? ": rope_scaling" : ": rope_parameters");
  const auto read = [&](const char* key, double* value) -> absl::Status {
    Keys inner(rope, place), outer(config, path);
    (inner.Has(key) ? inner : outer).Double(key, value);
    return inner.status().ok() ? outer.status() : inner.status();
  };
  double partial = 0;
  LACUNA_RETURN_IF_ERROR(read("rope_theta", &model->rope_theta));
  LACUNA_RETURN_IF_ERROR(read("partial_rotary_factor", &partial));
  if (!(partial > 0 && partial <= 1))
    return DataError("{}: partial_rotary_factor: found {}, expected above 0, at most 1", path,
                     partial);
  model->rotary_dims = static_cast<int64_t>(static_cast<double>(model->head_dim_qk) * partial);
  const json type = rope.value("rope_type", rope.value("type", json("default")));
  if (type == "yarn") return ReadYarn(rope, place, &model->yarn);
  if (type == "default") return absl::OkStatus();
  return DataError("{}: rope_type: found {}, expected \"default\" or \"yarn\"", place, Shown(type));
}

absl::Status ReadModel(const json& config, const std::string& path, ModelConfig* model) {
  Keys keys(config, path);
  keys.Int("vocab_size", &model->vocab_size);
  keys.Int("hidden_size", &model->width);
  keys.Int("intermediate_size", &model->dense_width);
  keys.Int("num_hidden_layers", &model->num_layers);
  keys.Int("num_attention_heads", &model->num_heads);
  keys.Int("num_key_value_heads", &model->num_groups);
  keys.Int("head_dim", &model->head_dim_qk);
  keys.Int("first_k_dense_replace", &model->num_dense_layers);
  keys.Double("rms_norm_eps", &model->norm_eps);
  if (keys.Has("use_qk_norm")) keys.Bool("use_qk_norm", &model->qk_norm);
  if (keys.Has("tie_word_embeddings")) keys.Bool("tie_word_embeddings", &model->tie_embeddings);
  if (keys.Has("initializer_range")) keys.Double("initializer_range", &model->init_std);
  keys.Only("hidden_act", "silu");
  keys.Only("attention_bias", false);
  keys.Only("num_nextn_predict_layers", 0);
  return keys.status();
}

absl::Status ReadExperts(const json& config, const std::string& path, MoeConfig* moe) {
  Keys keys(config, path);
  keys.Int("n_routed_experts", &moe->num_experts);
  keys.Int("num_experts_per_tok", &moe->experts_per_token);
  keys.Int("moe_intermediate_size", &moe->expert_width);
  keys.Int("n_shared_experts", &moe->num_shared);
  keys.Bool("norm_topk_prob", &moe->normalize_weights);
  keys.Double("routed_scaling_factor", &moe->routed_scale);
  if (keys.Has("scoring_func")) keys.Enum("scoring_func", &moe->router);
  keys.Only("n_group", 1);
  keys.Only("topk_group", 1);
  return keys.status();
}

absl::Status ReadNsa(const json& config, const std::string& path, NsaConfig* nsa) {
  if (!config.contains("nsa_config") || !config["nsa_config"].is_object())
    return DataError("{}: nsa_config: missing, expected an object", path);
  Keys keys(config["nsa_config"], path + ": nsa_config");
  keys.Int("compress_block", &nsa->block);
  keys.Int("compress_stride", &nsa->stride);
  keys.Int("select_block", &nsa->select_block);
  keys.Int("select_topk", &nsa->num_selected);
  keys.Int("init_blocks", &nsa->num_init);
  keys.Int("local_blocks", &nsa->num_local);
  keys.Int("window", &nsa->window);
  keys.Enum("phi", &nsa->phi);
  keys.Int("phi_hidden", &nsa->phi_hidden);
  keys.Enum("phi_activation", &nsa->activation);
  keys.Only("shared_kv", false);
  keys.Only("gate", "sigmoid");
  return keys.status();
}

}  // namespace

absl::StatusOr<ImportedConfig> ReadHfConfig(const json& config, const std::string& path,
                                            int64_t value_width) {
  if (!config.is_object()) return DataError("{}: is not an object", path);
  ImportedConfig imported;
  const json type = config.value("model_type", json());
  if (type != "glm4_moe" && type != "nsa_moe")
    return DataError("{}: model_type: found {}, expected \"glm4_moe\" or \"nsa_moe\"", path,
                     Shown(type));
  const bool glm = type == "glm4_moe";
  imported.architecture = glm ? ExportArchitecture::kGlm4Moe : ExportArchitecture::kNsaMoe;
  LACUNA_RETURN_IF_ERROR(ReadModel(config, path, &imported.model));
  LACUNA_RETURN_IF_ERROR(ReadRope(config, path, &imported.model));
  Keys keys(config, path);
  keys.Int("max_position_embeddings", &imported.max_positions);
  imported.model.attention = AttentionKind::kFull;
  if (glm) {
    imported.model.head_dim_v = value_width > 0 ? value_width : imported.model.head_dim_qk;
  } else {
    keys.Int("v_head_dim", &imported.model.head_dim_v);
    keys.Enum("attention", &imported.model.attention);
  }
  LACUNA_RETURN_IF_ERROR(keys.status());
  if (imported.model.num_dense_layers < imported.model.num_layers)
    LACUNA_RETURN_IF_ERROR(ReadExperts(config, path, &imported.moe));
  if (imported.model.attention == AttentionKind::kNsa)
    LACUNA_RETURN_IF_ERROR(ReadNsa(config, path, &imported.nsa));
  std::vector<std::string> violations;
  imported.model.Validate("model", &violations);
  if (imported.model.attention == AttentionKind::kNsa) imported.nsa.Validate("nsa", &violations);
  if (imported.model.num_dense_layers < imported.model.num_layers)
    imported.moe.Validate("moe", &violations);
  if (!violations.empty()) return DataError("{}: {}", path, fmt::join(violations, "; "));
  return imported;
}

}  // namespace lacuna
