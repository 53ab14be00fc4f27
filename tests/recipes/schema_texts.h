// A small valid recipe, and ways to make it invalid.
#pragma once

#include <string>

#include "core/error.h"
#include "core/status.h"
#include "recipes/schema/recipe.h"

namespace lacuna::test {

inline const char kValidRecipe[] = R"(run:
  name: tiny
  dir: runs/tiny
model:
  attention: nsa
  num_layers: 2
  width: 64
  vocab_size: 512
  num_heads: 4
  num_groups: 2
  head_dim_qk: 24
  head_dim_v: 16
  rotary_dims: 8
  dense_width: 96
nsa: {block: 16, stride: 8, select_block: 32, num_selected: 4, window: 64}
moe:
  num_experts: 4
  experts_per_token: 2
  expert_width: 32
  num_shared: 1
data:
  tokenizer: t/tokenizer.json
  sources:
    - {name: web, path: t/web, weight: 2.0}
    - name: code
      path: t/code
optimizer:
  learning_rate: 1e-3
  warmup_steps: 10
train:
  sequence_length: 256
  global_batch: 8
  steps: 100
)";

// The one line (or the lines) that reading `text` as "r.yaml" fails with; empty where it succeeds.
inline std::string Complaint(const std::string& text,
                             const std::vector<std::string>& overrides = {}, int64_t ranks = 1) {
  const auto recipe = ParseRecipe(text, "r.yaml", overrides, ranks);
  if (recipe.ok()) return "";
  return ExitCodeOf(recipe.status()) == ExitCode::kConfig ? Message(recipe.status())
                                                          : "not a configuration error";
}

// kValidRecipe with the first `from` replaced.
inline std::string Edited(const std::string& from, const std::string& to) {
  std::string text = kValidRecipe;
  const size_t at = text.find(from);
  LACUNA_CHECK(at != text.npos, "no \"{}\" in the recipe", from);
  return text.replace(at, from.size(), to);
}

}  // namespace lacuna::test
