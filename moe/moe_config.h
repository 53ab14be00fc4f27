// Section `moe` of a recipe: DeepSeekMoE (arXiv 2401.06066), dropless.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lacuna {

enum class RouterKind { kSigmoid, kSoftmax };
enum class AuxLossScope { kNone, kMicroBatch, kSequence, kGlobalBatch };

struct MoeConfig {
  int64_t num_experts = 72;       // E, routed
  int64_t experts_per_token = 6;  // K
  int64_t expert_width = 1536;    // F of an expert
  int64_t num_shared = 2;         // shared experts: one SwiGLU of width num_shared * expert_width
  RouterKind router = RouterKind::kSigmoid;
  bool normalize_weights = true;    // the K weights of a token sum to one ...
  double routed_scale = 1.0;        // ... times this
  double bias_update_rate = 0.001;  // sigmoid: step of the correction bias; 0 keeps it
  AuxLossScope aux_loss = AuxLossScope::kNone;
  double aux_loss_coef = 0.0;
  double z_loss_coef = 0.0;

  // Appends one line for every violated rule, naming `section`.key and value.
  void Validate(const std::string& section, std::vector<std::string>* violations) const;
};

}  // namespace lacuna
