// The one place that knows every module type: builds a model from the sections of a recipe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/rope_table.h"
#include "moe/moe_config.h"
#include "moe/moe_layer.h"
#include "nn/flat_parameters.h"
#include "nn/language_model.h"
#include "nn/model_config.h"
#include "nsa/nsa_config.h"

namespace lacuna {

struct BuiltModel {
  std::unique_ptr<LanguageModel> model;
  std::unique_ptr<FlatParameters> parameters;
  std::vector<MoeLayer*> moe_layers;  // in order; owned by the model
  std::shared_ptr<RopeTable> rope;
};

// The rotary positions of a model.
RopeSpec RopeSpecOf(const ModelConfig& model);

// Valid sections -> a model with its parameters initialised from `seed`. Layers from
// num_dense_layers on have experts. Output projections start with init_std / sqrt(2 num_layers)
// (Radford et al., 2019). Without `gradients` it can only be run forward, in half the memory.
// expert_group: the ranks over which each layer's experts are spread (Mesh::expert), none where all
// are here; it must outlive the model. Every rank's part starts as that part of the whole model.
// expert_chunks: in which tokens travel to them (moe/dispatcher.h).
BuiltModel BuildModel(const ModelConfig& model, const NsaConfig& nsa, const MoeConfig& moe,
                      RecomputePolicy recompute, DType dtype, uint64_t seed, bool gradients = true,
                      Device device = kCpu, const Sharding& sharding = {},
                      Communicator* expert_group = nullptr, int64_t expert_chunks = 1);

}  // namespace lacuna
