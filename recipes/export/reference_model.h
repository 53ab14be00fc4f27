// An exported model (Glm4Moe or nsa_moe) computed from nothing but its folder: the names in the
// safetensors, config.json and plain f64 loops. It shares no code with the layers that train, their
// kernels or the exporter, so what agrees with it is what the folder says.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "recipes/export/decisions.h"
#include "recipes/export/reference_attention.h"
#include "recipes/export/reference_config.h"
#include "recipes/export/reference_weights.h"

namespace lacuna {

struct ReferenceTrace {
  Doubles hidden;  // [T, C] after the final norm
  struct Layer {
    DecisionAgreement blocks, experts;
  };
  std::vector<Layer> layers;
};

class ReferenceModel {
 public:
  // Errors: what a reader of the files refuses, a tensor that is missing, has another shape or is
  // left over.
  static absl::StatusOr<std::unique_ptr<ReferenceModel>> Open(const std::string& folder);

  // One sequence from its first token. `theirs`, if given, are the decisions of another
  // implementation layer by layer: they are compared with those made here and, where scores within
  // `tie` explain a difference, followed.
  ReferenceTrace Run(const std::vector<int32_t>& ids, const std::vector<LayerDecisions>* theirs,
                     double tie) const;
  // Of rows [begin, end) of a trace: [end - begin, V].
  Doubles Logits(const ReferenceTrace& trace, int64_t begin, int64_t end) const;

  const ReferenceConfig& config() const { return config_; }
  size_t num_tensors() const { return weights_->num_tensors(); }

 private:
  struct Mlp {
    ReferenceMatrix gate, up, down;
  };
  struct Layer {
    Doubles attention_norm, feed_forward_norm;
    ReferenceAttention attention;
    Mlp dense, shared;
    std::vector<Mlp> experts;
    ReferenceMatrix router;
    Doubles bias;
  };
  ReferenceModel() = default;
  Mlp TakeMlp(const std::string& prefix, int64_t hidden);
  Layer TakeLayer(int64_t index);
  static Doubles RunMlp(const Mlp& mlp, const Doubles& x);
  Doubles RunExperts(const Layer& layer, const Doubles& x, const LayerDecisions* theirs, double tie,
                     DecisionAgreement* agreement) const;

  ReferenceConfig config_;
  std::unique_ptr<ReferenceWeights> weights_;
  ReferenceMatrix embedding_, head_;
  Doubles norm_;
  std::vector<Layer> layers_;
};

}  // namespace lacuna
