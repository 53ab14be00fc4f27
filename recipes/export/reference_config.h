// config.json as the reference model understands it: read for itself, with nothing of the code that
// wrote it or of the model that was trained.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lacuna {

struct ReferenceConfig {
  bool nsa = false;  // else full attention
  bool softmax_router = false;
  bool qk_norm = false;
  bool tied = false;
  bool normalize_weights = false;
  int64_t vocabulary = 0, width = 0, dense_width = 0, layers = 0, dense_layers = 0;
  int64_t heads = 0, groups = 0, key_width = 0, value_width = 0;
  int64_t experts = 0, experts_per_token = 0, expert_width = 0, shared_experts = 0;
  double routed_scale = 1, eps = 0;
  int64_t max_positions = 0;

  // Resolved by Hugging Face's formulas.
  double yarn_factor = 1, attention_factor = 1;
  std::vector<double> inverse_frequencies;  // of the first 2 * size() dims, paired by halves

  // nsa_config
  int64_t block = 0, stride = 0, select_block = 0, select_topk = 0, init_blocks = 0,
          local_blocks = 0, window = 0, phi_hidden = 0;
  std::string phi, phi_activation;
};

// <folder>/config.json of model_type glm4_moe or nsa_moe. A key that is needed and missing is a
// DataError.
absl::StatusOr<ReferenceConfig> ReadReferenceConfig(const std::string& folder);

}  // namespace lacuna
