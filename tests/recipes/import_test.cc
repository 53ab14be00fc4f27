// Exported folders as runs again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "data/safetensors_reader.h"
#include "data/safetensors_writer.h"
#include "nn/generation.h"
#include "recipes/export/exporter.h"
#include "recipes/export/importer.h"
#include "recipes/trainer/load_model.h"
#include "tests/recipes/export_fixture.h"
#include "tests/support/compare.h"

namespace lacuna {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Import : public testing::Test {
 protected:
  // A run and its export, both in f32.
  void Export(
      AttentionKind attention, void (*change)(Recipe*) = [](Recipe*) {}) {
    recipe_ = test::SmallRecipe(attention, dir_ / "run");
    change(&recipe_);
    test::WriteRun(recipe_);
    const auto summary = ExportRun({.run_dir = recipe_.run.dir,
                                    .out_dir = dir_ / "out",
                                    .dtype = DType::kF32,
                                    .probe_tokens = 30});
    ASSERT_TRUE(summary.ok()) << summary.status();
  }
  std::string Refusal(const std::string& recipe = "") {
    const auto summary = ImportRun({dir_ / "out", dir_ / "again", recipe});
    if (summary.ok()) return "";
    EXPECT_EQ(Message(summary.status()).find('\n'), std::string::npos);
    return Message(summary.status());
  }
  void Write(const std::string& file, const std::string& bytes) {
    std::ofstream(dir_ / ("out/" + file), std::ios::binary) << bytes;
  }
  // Writes model.safetensors with other tensors: `change` drops, adds or edits them.
  void Rewrite(const std::function<void(std::map<std::string, Tensor>*,
                                        std::map<std::string, std::string>*)>& change) {
    std::map<std::string, Tensor> tensors;
    std::map<std::string, std::string> metadata;
    {
      const auto folder = SafetensorsFolder::Open(dir_ / "out");
      for (const auto& [name, item] : folder->tensors())
        tensors[name] = *item.file->Read(*item.entry);
      metadata = folder->files()[0].metadata();
    }
    change(&tensors, &metadata);
    std::vector<SafetensorsSpec> specs;
    for (const auto& [name, tensor] : tensors)
      specs.push_back({name, tensor.dtype(), tensor.shape()});
    auto writer = SafetensorsWriter::Create(dir_ / "out/model.safetensors", specs, metadata);
    for (const auto& [name, tensor] : tensors)
      EXPECT_TRUE(writer->Write(name, tensor.Ref().data, tensor.bytes()).ok());
    EXPECT_TRUE(writer->Close().ok());
  }

  test::TempDir dir_;
  Recipe recipe_;
};

void ExpectSameModel(const std::string& first, const std::string& second) {
  absl::StatusOr<LoadedModel> a = LoadModel(first, 0), b = LoadModel(second, 0);
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  const std::vector<NamedTensor> x = TensorsByName(a->model), y = TensorsByName(b->model);
  ASSERT_EQ(x.size(), y.size());
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(x[i].name, y[i].name);
    EXPECT_TRUE(test::SameBits(x[i].tensor, y[i].tensor)) << x[i].name;
  }
  GenerationOptions options;
  options.max_tokens = 20;
  options.sampling.temperature = 0;
  EXPECT_EQ(Generate(*a->model.model, {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}, options),
            Generate(*b->model.model, {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}, options));
}

TEST_F(Import, GivesTheSameBitsBack) {
  for (const AttentionKind attention : {AttentionKind::kFull, AttentionKind::kNsa}) {
    std::filesystem::remove_all(dir_ / "out");
    std::filesystem::remove_all(dir_ / "run");
    std::filesystem::remove_all(dir_ / "again");
    Export(attention, [](Recipe* r) {
      r->model.yarn = {.factor = 2, .original_length = 50};
      r->model.qk_norm = true;
    });
    const auto summary = ImportRun({dir_ / "out", dir_ / "again", ""});
    ASSERT_TRUE(summary.ok()) << summary.status();
    ExpectSameModel(dir_ / "run", dir_ / "again");
    // And what is exported from there is the same file.
    ASSERT_TRUE(ExportRun({.run_dir = dir_ / "again",
                           .out_dir = dir_ / "out2",
                           .dtype = DType::kF32,
                           .probe_tokens = 30})
                    .ok());
    for (const char* file : {"model.safetensors", "config.json", "tokenizer.json"})
      EXPECT_EQ(test::FileText(dir_ / "out2" + std::string("/") + file),
                test::FileText(dir_ / "out" + std::string("/") + file))
          << file;
    std::filesystem::remove_all(dir_ / "out2");
  }
}

TEST_F(Import, ABf16FolderIsWidened) {
  Export(AttentionKind::kNsa);
  ASSERT_TRUE(
      ExportRun({.run_dir = dir_ / "run", .out_dir = dir_ / "bf16", .probe_tokens = 30}).ok());
  ASSERT_TRUE(ImportRun({dir_ / "bf16", dir_ / "once", ""}).ok());
  ASSERT_TRUE(
      ExportRun({.run_dir = dir_ / "once", .out_dir = dir_ / "bf16_2", .probe_tokens = 30}).ok());
  EXPECT_EQ(test::FileText(dir_ / "bf16_2/model.safetensors"),
            test::FileText(dir_ / "bf16/model.safetensors"));
}

TEST_F(Import, TakesTrainingKeysFromARecipe) {
  Export(AttentionKind::kFull);
  Recipe other = test::SmallRecipe(AttentionKind::kNsa, "elsewhere");
  other.model.width = 999;
  other.moe.bias_update_rate = 0.25;
  other.optimizer.learning_rate = 0.125;
  other.train.dtype = DType::kBF16;
  std::ofstream(dir_ / "other.yaml") << ToYaml(other);
  const auto summary = ImportRun({dir_ / "out", dir_ / "again", dir_ / "other.yaml"});
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->recipe.model.width, 20);
  EXPECT_EQ(summary->recipe.model.attention, AttentionKind::kFull);
  EXPECT_EQ(summary->recipe.moe.bias_update_rate, 0.25);
  EXPECT_EQ(summary->recipe.optimizer.learning_rate, 0.125);
  EXPECT_EQ(summary->recipe.run.dir, dir_ / "again");
  const auto written = LoadRecipe(dir_ / "again/recipe.yaml", {}, 1);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(ToYaml(*written), ToYaml(summary->recipe));
  EXPECT_TRUE(LoadModel(dir_ / "again", 0).ok());
  EXPECT_THAT(Refusal(), HasSubstr("again: holds the checkpoints of a run"));
}

TEST_F(Import, PaddingMustBeZero) {
  Export(AttentionKind::kFull);
  Rewrite([](auto* tensors, auto*) {
    tensors->at("model.layers.2.self_attn.v_proj.weight").template mutable_data<float>()[11 * 20] =
        1e-20f;
  });
  EXPECT_THAT(Refusal(), HasSubstr("tensor \"model.layers.2.self_attn.v_proj.weight\": is not zero "
                                   "in the padding of its value heads"));
  EXPECT_FALSE(PathExists(dir_ / "again"));
  // Without the note of the padding every value row counts, as in any other Glm4Moe.
  Rewrite([](auto*, auto* metadata) { metadata->erase("v_head_dim"); });
  const auto summary = ImportRun({dir_ / "out", dir_ / "again", ""});
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->recipe.model.head_dim_v, 12);
}

TEST_F(Import, EveryTensorIsAccountedFor) {
  Export(AttentionKind::kNsa);
  const std::string good = test::FileText(dir_ / "out/model.safetensors");
  const std::string expert = "model.layers.1.mlp.experts.4.up_proj.weight";
  Rewrite([&](auto* tensors, auto*) { tensors->erase(expert); });
  EXPECT_THAT(Refusal(), HasSubstr("has no tensor \"" + expert + "\""));
  Write("model.safetensors", good);
  Rewrite([&](auto* tensors, auto*) { (*tensors)["surplus"] = Tensor::Zeros({2}, DType::kF32); });
  EXPECT_THAT(Refusal(), HasSubstr("tensor \"surplus\": is no part of the model"));
  Write("model.safetensors", good);
  Rewrite([&](auto* tensors, auto*) {
    (*tensors)[expert] = tensors->at(expert).Reshape({20, 12}).Clone();
  });
  EXPECT_THAT(Refusal(), HasSubstr("is F32 [20, 12], expected BF16 or F32 [12, 20]"));
  Write("model.safetensors", good);
  Rewrite([&](auto* tensors, auto*) { (*tensors)[expert] = tensors->at(expert).To(DType::kF64); });
  EXPECT_THAT(Refusal(), HasSubstr("is F64 [12, 20], expected BF16 or F32"));
  Write("model.safetensors", good);
  Write("config.json", "{\"a\":1,\"a\":2}");
  EXPECT_THAT(Refusal(), HasSubstr("config.json: has the key \"a\" twice"));
  EXPECT_FALSE(PathExists(dir_ / "again"));
}

// A byte of the header or the length that is not what it was: refused, unless it stands in the
// metadata, which says nothing of the model but the width of its value heads.
TEST_F(Import, ChangedHeadersAreRefused) {
  Export(AttentionKind::kFull, [](Recipe* r) { r->model.num_layers = 1; });
  const std::string good = test::FileText(dir_ / "out/model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, good.data(), 8);
  const size_t metadata_end = good.find('}', 8) + 1;
  int tried = 0;
  for (size_t i = 0; i < 8 + length; i += i < 8 ? 1 : 5) {
    if (i >= 8 && i < metadata_end) continue;
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    Write("model.safetensors", bad);
    EXPECT_NE(Refusal(), "") << "byte " << i;
    ++tried;
  }
  EXPECT_GT(tried, 100);
  EXPECT_FALSE(PathExists(dir_ / "again"));
}

}  // namespace
}  // namespace lacuna
