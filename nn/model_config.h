// Section `model` of a recipe: the transformer without its sparse attention (nsa/nsa_config.h) and
// experts (moe/moe_config.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lacuna {

enum class AttentionKind { kFull, kNsa };

// YaRN context extension; factor 1 is plain RoPE.
struct YarnConfig {
  double factor = 1.0;
  int64_t original_length = 8192;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
};

struct ModelConfig {
  AttentionKind attention = AttentionKind::kNsa;
  int64_t num_layers = 30;
  int64_t num_dense_layers = 1;  // the first layers have a dense SwiGLU instead of experts
  int64_t width = 2560;          // C
  int64_t vocab_size = 102400;   // V
  int64_t num_heads = 64;        // H
  int64_t num_groups = 4;        // G, KV groups
  int64_t head_dim_qk = 192;     // Dk
  int64_t head_dim_v = 128;      // Dv
  int64_t rotary_dims = 64;      // the first dims of q and k that rotate
  double rope_theta = 10000.0;
  YarnConfig yarn;
  bool qk_norm = false;
  int64_t dense_width = 12288;  // F of the dense layers
  bool tie_embeddings = false;
  double norm_eps = 1e-5;
  double init_std = 0.02;

  // Appends one line for every violated rule, naming `section`.key and value.
  void Validate(const std::string& section, std::vector<std::string>* violations) const;
};

}  // namespace lacuna
