// config.json of an exported folder, from a recipe and back.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "core/dtype.h"
#include "moe/moe_config.h"
#include "nn/model_config.h"
#include "nsa/nsa_config.h"
#include "recipes/export/export_map.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct ExportOptions;

// Token ids that a served model needs.
struct SpecialIds {
  int64_t bos = 0;
  int64_t eos = 0;
  int64_t pad = 0;
};

// Whether the model is one that the architecture can express; a ConfigError names the key that it
// cannot, and what can be done.
absl::Status CheckExpressible(const Recipe& recipe, ExportArchitecture architecture);

// What a model can be served with: yarn.factor times yarn.original_length, which must be whole
// (some readers work the factor out from it), or train.sequence_length without YaRN.
absl::StatusOr<int64_t> MaxPositions(const Recipe& recipe);

// The factor p for which int(head_dim p), in doubles, is rotary_dims: what readers compute.
double PartialRotaryFactor(int64_t rotary_dims, int64_t head_dim);

// `generation` is the major version of transformers that is to read it, 4 or 5: 5 has
// rope_parameters, 4 rope_scaling. Floats are written with a point, as readers ask for.
absl::StatusOr<nlohmann::ordered_json> HfConfig(const Recipe& recipe,
                                                ExportArchitecture architecture, DType dtype,
                                                int generation, const SpecialIds& ids);

// What a config.json says of a model.
struct ImportedConfig {
  ExportArchitecture architecture = ExportArchitecture::kGlm4Moe;
  ModelConfig model;
  NsaConfig nsa;
  MoeConfig moe;
  int64_t max_positions = 0;
};
// Of Glm4Moe's and nsa_moe's models those that Lacuna computes the same; a DataError names `path`,
// the key and what is allowed. `value_width`: Dv where the folder's v_proj is padded (Glm4Moe),
// else 0.
absl::StatusOr<ImportedConfig> ReadHfConfig(const nlohmann::json& config, const std::string& path,
                                            int64_t value_width);

}  // namespace lacuna
