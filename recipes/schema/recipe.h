// A recipe: everything a run depends on, one YAML file. Its sections are the components' config
// structs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/data_config.h"
#include "moe/moe_config.h"
#include "nn/model_config.h"
#include "nn/optimizer_config.h"
#include "nsa/nsa_config.h"
#include "recipes/schema/keys.h"
#include "recipes/schema/parallel_config.h"
#include "recipes/schema/train_config.h"

namespace lacuna {

struct Recipe {
  RunConfig run;
  InitConfig init_from;
  ModelConfig model;
  NsaConfig nsa;  // meaningful where model.attention is nsa; elsewhere only its types are checked
  MoeConfig moe;  // meaningful where model.num_dense_layers < model.num_layers
  DataConfig data;
  OptimizerConfig optimizer;
  TrainConfig train;
  ParallelConfig parallel;

  bool uses_nsa() const { return model.attention == AttentionKind::kNsa; }
  bool uses_moe() const { return model.num_dense_layers < model.num_layers; }
  // Tokens of a micro-batch on a rank.
  int64_t rank_tokens() const {
    return train.micro_batch * train.sequence_length / parallel.context;
  }
  // What parallel.expert_chunks comes to.
  int64_t expert_chunks() const {
    if (parallel.expert == 1) return 1;
    if (parallel.expert_chunks > 0) return parallel.expert_chunks;
    return rank_tokens() >= 2 * ParallelConfig::kChunkTokens ? 2 : 1;
  }
};

// Reads, applies the overrides ("model.width=512", in order, the last of a key wins) and validates
// for a run on `ranks` ranks.
// The ConfigError lists every violation found (the first 50, if there are more): one line, or a
// count and one indented line each, with file:line:column (or --set key), key, what was found and
// what is allowed.
absl::StatusOr<Recipe> LoadRecipe(const std::string& path,
                                  const std::vector<std::string>& overrides, int64_t ranks);
// The same from text; `name` stands for the path in messages.
absl::StatusOr<Recipe> ParseRecipe(const std::string& text, const std::string& name,
                                   const std::vector<std::string>& overrides, int64_t ranks);

// Appends one line for every rule that a section, or several together, violate; each starts with
// "section.key".
void ValidateRecipe(const Recipe& recipe, int64_t ranks, std::vector<std::string>* violations);

// The resolved recipe: every key with its value. ParseRecipe reads back exactly the same values.
std::string ToYaml(const Recipe& recipe);

// Every key with its type, default and meaning, in the order of ToYaml.
std::vector<KeyInfo> RecipeKeys();

}  // namespace lacuna
