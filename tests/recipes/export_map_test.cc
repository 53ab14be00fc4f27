// Which tensor becomes which, and config.json.
#include "recipes/export/export_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/recipes/export_fixture.h"
#include "tests/support/compare.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

BuiltModel BuildSmall(const Recipe& recipe) {
  return BuildModel(recipe.model, recipe.nsa, recipe.moe, {}, recipe.train.dtype, 3);
}

std::map<std::string, ExportTensor> ByName(const std::vector<ExportTensor>& map) {
  std::map<std::string, ExportTensor> by_name;
  for (const ExportTensor& exported : map) by_name[exported.name] = exported;
  return by_name;
}

// All values of an exported tensor in f32.
std::vector<float> Values(const ExportTensor& exported, const std::vector<NamedTensor>& tensors) {
  std::vector<float> values(static_cast<size_t>(NumElements(exported.shape)));
  for (const NamedTensor& source : tensors) {
    if (source.name == exported.source)
      GatherExported(exported, source.tensor, 0, static_cast<int64_t>(values.size()), DType::kF32,
                     values.data());
  }
  return values;
}

TEST(ExportMap, NamesOfGlm4Moe) {
  const Recipe recipe = test::SmallRecipe(AttentionKind::kFull, "none");
  BuiltModel built = BuildSmall(recipe);
  const auto map = MapModel(TensorsByName(built), recipe.model, ExportArchitecture::kGlm4Moe);
  ASSERT_TRUE(map.ok()) << map.status();
  std::map<std::string, Shape> shapes;
  for (const ExportTensor& exported : *map) shapes[exported.name] = exported.shape;
  std::map<std::string, Shape> expected = {{"model.embed_tokens.weight", {260, 20}},
                                           {"model.norm.weight", {20}},
                                           {"lm_head.weight", {260, 20}}};
  for (int i = 0; i < 3; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    expected[layer + "input_layernorm.weight"] = {20};
    expected[layer + "post_attention_layernorm.weight"] = {20};
    expected[layer + "self_attn.q_proj.weight"] = {48, 20};
    expected[layer + "self_attn.k_proj.weight"] = {24, 20};
    expected[layer + "self_attn.v_proj.weight"] = {24, 20};
    expected[layer + "self_attn.o_proj.weight"] = {20, 48};
    const auto mlp = [&](const std::string& name, int64_t hidden) {
      expected[layer + name + "gate_proj.weight"] = {hidden, 20};
      expected[layer + name + "up_proj.weight"] = {hidden, 20};
      expected[layer + name + "down_proj.weight"] = {20, hidden};
    };
    if (i == 0) {
      mlp("mlp.", 28);
      continue;
    }
    expected[layer + "mlp.gate.weight"] = {5, 20};
    expected[layer + "mlp.gate.e_score_correction_bias"] = {5};
    mlp("mlp.shared_experts.", 24);
    for (int e = 0; e < 5; ++e) mlp(fmt::format("mlp.experts.{}.", e), 12);
  }
  EXPECT_EQ(shapes, expected);
  EXPECT_TRUE(ByName(*map).at("model.layers.1.mlp.gate.weight").wide);
}

TEST(ExportMap, NamesOfNsa) {
  Recipe recipe = test::SmallRecipe(AttentionKind::kNsa, "none");
  recipe.model.qk_norm = recipe.model.tie_embeddings = true;
  BuiltModel built = BuildSmall(recipe);
  const auto map = MapModel(TensorsByName(built), recipe.model, ExportArchitecture::kNsaMoe);
  ASSERT_TRUE(map.ok()) << map.status();
  std::set<std::string> of_layer;
  for (const ExportTensor& exported : *map) {
    if (exported.name.starts_with("model.layers.0.self_attn."))
      of_layer.insert(exported.name.substr(25));
  }
  EXPECT_THAT(of_layer,
              testing::UnorderedElementsAre(
                  "q_proj.weight", "cmp_k_proj.weight", "cmp_v_proj.weight", "slc_k_proj.weight",
                  "slc_v_proj.weight", "win_k_proj.weight", "win_v_proj.weight", "q_norm.weight",
                  "cmp_k_norm.weight", "slc_k_norm.weight", "win_k_norm.weight", "gate_proj.weight",
                  "cmp_pos_k", "cmp_pos_v", "phi_k.w1.weight", "phi_k.w2.weight", "phi_v.w1.weight",
                  "phi_v.w2.weight", "o_proj.weight"));
  EXPECT_EQ(ByName(*map).count("lm_head.weight"), 0u) << "stored with the embedding";
}

TEST(ExportMap, ValueHeadsArePadded) {
  const Recipe recipe = test::SmallRecipe(AttentionKind::kFull, "none");
  BuiltModel built = BuildSmall(recipe);
  const std::vector<NamedTensor> tensors = TensorsByName(built);
  const auto map = ByName(*MapModel(tensors, recipe.model, ExportArchitecture::kGlm4Moe));
  std::map<std::string, std::vector<double>> source;
  for (const NamedTensor& tensor : tensors) source[tensor.name] = tensor.tensor.ToDoubles();

  const auto v = Values(map.at("model.layers.1.self_attn.v_proj.weight"), tensors);
  const auto& v_source = source.at("layers.1.self_attn.v_proj.weight");
  for (size_t g = 0; g < 2; ++g) {
    for (size_t d = 0; d < 12; ++d) {
      for (size_t c = 0; c < 20; ++c) {
        const double expected = d < 8 ? v_source[(g * 8 + d) * 20 + c] : 0;
        ASSERT_EQ(v[(g * 12 + d) * 20 + c], expected) << g << " " << d << " " << c;
      }
    }
  }
  const auto o = Values(map.at("model.layers.1.self_attn.o_proj.weight"), tensors);
  const auto& o_source = source.at("layers.1.self_attn.o_proj.weight");
  for (size_t c = 0; c < 20; ++c) {
    for (size_t h = 0; h < 4; ++h) {
      for (size_t d = 0; d < 12; ++d) {
        const double expected = d < 8 ? o_source[c * 32 + h * 8 + d] : 0;
        ASSERT_EQ(o[c * 48 + h * 12 + d], expected) << c << " " << h << " " << d;
      }
    }
  }
  const auto up = Values(map.at("model.layers.2.mlp.experts.3.up_proj.weight"), tensors);
  const auto& experts = source.at("layers.2.mlp.experts.gate_up_proj.weight");
  for (size_t i = 0; i < up.size(); ++i) ASSERT_EQ(up[i], experts[(3 * 24 + 12) * 20 + i]);
}

// Parts of any size give the same bytes as the whole, in both types.
TEST(ExportMap, PartsAreTheWhole) {
  const Recipe recipe = test::SmallRecipe(AttentionKind::kFull, "none");
  BuiltModel built = BuildSmall(recipe);
  const std::vector<NamedTensor> tensors = TensorsByName(built);
  std::map<std::string, const Tensor*> source;
  for (const NamedTensor& tensor : tensors) source[tensor.name] = &tensor.tensor;
  const auto map = *MapModel(tensors, recipe.model, ExportArchitecture::kGlm4Moe);
  for (const ExportTensor& exported : map) {
    const int64_t n = NumElements(exported.shape);
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const int64_t size = SizeOf(dtype);
      std::string whole(static_cast<size_t>(n * size), 'x'), parts = whole;
      const Tensor& from = *source.at(exported.source);
      GatherExported(exported, from, 0, n, dtype, whole.data());
      for (int64_t begin = 0; begin < n; begin += 7)
        GatherExported(exported, from, begin, std::min<int64_t>(7, n - begin), dtype,
                       parts.data() + begin * size);
      EXPECT_EQ(parts, whole) << exported.name;
    }
  }
}

TEST(ExportMap, ScatterUndoesGather) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Recipe recipe = test::SmallRecipe(AttentionKind::kFull, "none");
    BuiltModel from = BuildSmall(recipe), to = BuildSmall(recipe);
    to.parameters->master().Zero();
    std::vector<NamedTensor> source = TensorsByName(from), target = TensorsByName(to);
    const auto map = *MapModel(source, recipe.model, ExportArchitecture::kGlm4Moe);
    for (const ExportTensor& exported : map) {
      const DType stored = exported.wide ? DType::kF32 : dtype;
      std::string bytes(static_cast<size_t>(NumElements(exported.shape) * SizeOf(stored)), 'x');
      for (size_t i = 0; i < source.size(); ++i) {
        if (source[i].name != exported.source) continue;
        GatherExported(exported, source[i].tensor, 0, NumElements(exported.shape), stored,
                       bytes.data());
        EXPECT_TRUE(ScatterExported(exported, bytes.data(), stored, &target[i].tensor));
        RoundLikeExported(exported, dtype, &source[i].tensor);
        if (exported.block == exported.source_block) continue;
        bytes[bytes.size() - 1] = 0x40;  // the last element is padding
        EXPECT_FALSE(ScatterExported(exported, bytes.data(), stored, &target[i].tensor));
      }
    }
    EXPECT_TRUE(test::SameBits(to.parameters->master(), from.parameters->master()));
  }
}

TEST(ExportMap, NothingIsLeftOut) {
  const Recipe recipe = test::SmallRecipe(AttentionKind::kNsa, "none");
  BuiltModel built = BuildSmall(recipe);
  std::vector<NamedTensor> tensors = TensorsByName(built);
  tensors.push_back({"layers.1.self_attn.indexer.weight", Tensor::Zeros({2, 3}, DType::kF32)});
  tensors.push_back({"something", Tensor::Zeros({2}, DType::kF32)});
  const auto map = MapModel(tensors, recipe.model, ExportArchitecture::kNsaMoe);
  EXPECT_EQ(Message(map.status()),
            "2 tensors of the model have no name in the export: "
            "layers.1.self_attn.indexer.weight, something");
  EXPECT_EQ(ExitCodeOf(map.status()), ExitCode::kCheckpoint);
  // A tensor of which a row would get lost.
  tensors.resize(tensors.size() - 2);
  for (NamedTensor& tensor : tensors) {
    if (tensor.name == "layers.0.mlp.gate_up_proj.weight")
      tensor.tensor = Tensor::Zeros({57, 20}, DType::kF32);
  }
  EXPECT_THAT(Message(MapModel(tensors, recipe.model, ExportArchitecture::kNsaMoe).status()),
              HasSubstr("layers.0.mlp.gate_up_proj.weight: 1120 of its 1140 elements"));
}

TEST(ExportMap, LayersAreGroups) {
  const Recipe recipe = test::SmallRecipe(AttentionKind::kNsa, "none");
  BuiltModel built = BuildSmall(recipe);
  const auto groups = GroupTensors(
      *MapModel(TensorsByName(built), recipe.model, ExportArchitecture::kNsaMoe), DType::kBF16);
  ASSERT_EQ(groups.size(), 6u);  // embedding, three layers, norm, head
  EXPECT_EQ(groups[2][1].size(), 15u);
  for (const SafetensorsSpec& spec : groups[2][1]) {
    EXPECT_THAT(spec.name, testing::StartsWith("model.layers.1.mlp.experts."));
    EXPECT_EQ(spec.dtype, DType::kBF16);
  }
  for (const SafetensorsSpec& spec : groups[2][0])
    EXPECT_EQ(spec.dtype == DType::kF32, spec.name.find("mlp.gate.") != std::string::npos);
}

}  // namespace
}  // namespace lacuna
