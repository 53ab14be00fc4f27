// Small runs to export: a folder with a checkpoint of random weights and a tokenizer, as training
// leaves it.
#pragma once

#include <fstream>
#include <functional>
#include <string>

#include "core/error.h"
#include "core/io/file.h"
#include "data/tokenizer/tokenizer.h"
#include "distributed/checkpoint_writer.h"
#include "recipes/export/export_map.h"
#include "recipes/export/exporter.h"
#include "recipes/trainer/checkpoints.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

namespace lacuna::test {

inline constexpr int64_t kExportVocabulary = 260;

inline Recipe SmallRecipe(AttentionKind attention, const std::string& dir) {
  Recipe recipe;
  recipe.run.name = "small";
  recipe.run.dir = dir;
  recipe.model = {.attention = attention,
                  .num_layers = 3,
                  .num_dense_layers = 1,
                  .width = 20,
                  .vocab_size = kExportVocabulary,
                  .num_heads = 4,
                  .num_groups = 2,
                  .head_dim_qk = 12,
                  .head_dim_v = 8,
                  .rotary_dims = 4,
                  .rope_theta = 100.0,
                  .yarn = {},
                  .dense_width = 28,
                  .init_std = 0.3};
  recipe.nsa = {.block = 8,
                .stride = 4,
                .select_block = 8,
                .num_selected = 4,
                .num_init = 1,
                .num_local = 2,
                .window = 10};
  recipe.moe.num_experts = 5;
  recipe.moe.experts_per_token = 2;
  recipe.moe.expert_width = 12;
  recipe.moe.num_shared = 2;
  recipe.moe.routed_scale = 1.5;
  recipe.data.tokenizer = dir + "/tokenizer.json";
  recipe.data.sources = {{.name = "a", .path = "none.h5", .weight = 1}};
  recipe.train.sequence_length = 100;
  recipe.train.global_batch = 1;
  recipe.train.steps = 10;
  recipe.optimizer.warmup_steps = 0;
  return recipe;
}

// Writes the run, after `change`. Norms and correction biases are random, too: as they start they
// would hide a mistake.
inline void WriteRun(
    const Recipe& recipe, const std::function<void(NamedTensor&)>& change = [](NamedTensor&) {}) {
  constexpr int64_t kStep = 7;
  LACUNA_CHECK(MakeDirectories(recipe.run.dir, ExitCode::kFailure).ok(), "no folder");
  std::ofstream(recipe.data.tokenizer) << ByteTokenizerJson();
  const auto tokenizer = Tokenizer::Load(recipe.data.tokenizer);
  LACUNA_CHECK(tokenizer.ok(), "{}", Message(tokenizer.status()));
  BuiltModel built = BuildModel(recipe.model, recipe.nsa, recipe.moe, {}, recipe.train.dtype, 11);
  uint64_t seed = 1000;
  for (NamedTensor& tensor : TensorsByName(built)) {
    const bool norm = tensor.name.find("norm.weight") != std::string::npos;
    if (!norm && tensor.name.find("bias") == std::string::npos) continue;
    std::vector<double> values =
        RandomTensor(tensor.tensor.shape(), DType::kF64, ++seed, norm ? 0.3 : 0.2).ToDoubles();
    for (double& value : values) value += norm ? 1.0 : 0.0;
    tensor.tensor.CopyFrom(
        Tensor::FromDoubles(values, tensor.tensor.shape(), tensor.tensor.dtype()));
  }
  for (NamedTensor& tensor : TensorsByName(built)) change(tensor);
  const auto comm = MakeSelfCommunicator();
  TrainingState state = TensorsOf(built, nullptr);
  RunState run;
  run.step = kStep;
  run.tokenizer_hash = tokenizer->hash();
  run.mixture = nlohmann::json::array();
  state.scalars = ToScalars(run);
  CheckpointWriter writer(
      *comm, {.directory = CheckpointDirectory(recipe.run.dir), .recipe = ToYaml(recipe)});
  const auto saved = writer.Save(kStep, state);
  LACUNA_CHECK(saved.ok(), "{}", Message(saved.status()));
}

inline std::string FileText(const std::string& path) {
  auto text = ReadFile(path, int64_t{1} << 30, ExitCode::kFailure);
  LACUNA_CHECK(text.ok(), "{}", Message(text.status()));
  return *std::move(text);
}

}  // namespace lacuna::test
