// Whole exports: what is written is what the model computes, and what is not is noticed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "data/strict_json.h"
#include "recipes/export/exporter.h"
#include "recipes/trainer/load_model.h"
#include "tests/recipes/export_fixture.h"

namespace lacuna {
namespace {

using nlohmann::json;
using testing::HasSubstr;

struct Case {
  std::string name;
  AttentionKind attention;
  void (*change)(Recipe*);
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

const Case kCases[] = {
    {"full", AttentionKind::kFull, [](Recipe*) {}},
    {"full_yarn_tied", AttentionKind::kFull,
     [](Recipe* r) {
       r->model.rotary_dims = 8;
       r->model.yarn = {.factor = 4, .original_length = 64, .beta_fast = 2, .beta_slow = 0.5};
       r->model.tie_embeddings = true;
     }},
    {"full_norm", AttentionKind::kFull,
     [](Recipe* r) {
       r->model.qk_norm = true;
       r->moe.normalize_weights = false;
     }},
    {"full_dense", AttentionKind::kFull, [](Recipe* r) { r->model.num_dense_layers = 3; }},
    {"nsa", AttentionKind::kNsa, [](Recipe*) {}},
    {"nsa_yarn_norm_tied", AttentionKind::kNsa,
     [](Recipe* r) {
       r->model.yarn = {.factor = 4, .original_length = 32, .beta_fast = 8, .beta_slow = 1};
       r->model.qk_norm = r->model.tie_embeddings = true;
     }},
    {"nsa_softmax_linear", AttentionKind::kNsa,
     [](Recipe* r) {
       r->moe.router = RouterKind::kSoftmax;
       r->moe.num_shared = 0;
       r->nsa.phi = PhiKind::kLinear;
     }},
    {"nsa_mean", AttentionKind::kNsa, [](Recipe* r) { r->nsa.phi = PhiKind::kMean; }},
    {"nsa_gelu_f64", AttentionKind::kNsa,
     [](Recipe* r) {
       r->nsa.activation = PhiActivation::kGeluTanh;
       r->nsa.select_block = 16;
       r->train.dtype = DType::kF64;
     }},
    {"nsa_bf16", AttentionKind::kNsa, [](Recipe* r) { r->train.dtype = DType::kBF16; }}};

Recipe RecipeOf(const Case& c, const std::string& dir) {
  Recipe recipe = test::SmallRecipe(c.attention, dir);
  c.change(&recipe);
  return recipe;
}

class Exports : public testing::TestWithParam<Case> {};

TEST_P(Exports, ComputeWhatTheModelDoes) {
  const test::TempDir dir;
  const Recipe recipe = RecipeOf(GetParam(), dir / "run");
  test::WriteRun(recipe);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::string out = dir / NameOf(dtype);
    const auto summary =
        ExportRun({.run_dir = recipe.run.dir, .out_dir = out, .dtype = dtype, .probe_tokens = 97});
    ASSERT_TRUE(summary.ok()) << summary.status();
    const Verification& v = summary->verification;
    EXPECT_LT(v.logits.max_difference, 0.1 * v.limit) << "the limit is hardly kept";
    EXPECT_GT(v.logits.largest, 1.0) << "such logits would hide differences";
    EXPECT_EQ(v.logits.top1, 1.0);
    EXPECT_EQ(v.greedy, 1.0);
    int64_t choices = 0;
    for (const auto& layer : v.layers) {
      EXPECT_EQ(layer.blocks.unexplained + layer.experts.unexplained, 0);
      choices += layer.blocks.compared + layer.experts.compared;
    }
    const int64_t expected =
        97 * ((recipe.uses_nsa() ? 3 * 2 : 0) + 3 - recipe.model.num_dense_layers);
    EXPECT_EQ(choices, expected);
    if (dtype == DType::kF32 && recipe.train.dtype != DType::kF64) {
      EXPECT_EQ(summary->rounding.max_difference, 0.0) << "f32 rounds nothing";
    } else {
      EXPECT_GT(summary->rounding.max_difference, 0.0);
    }
    const json report = json::parse(test::FileText(out + "/export_report.json"));
    EXPECT_EQ(report["tensors"].size(), report["tensor_count"].get<size_t>());
    EXPECT_EQ(report["step"], 7);
    EXPECT_EQ(report["experts_agreement"].size(), 3u);
    const json probe = json::parse(test::FileText(out + "/parity_probe.json"));
    EXPECT_EQ(probe["logits"].size(), probe["positions"].size());
    EXPECT_EQ(probe["positions"].back(), 96);
    EXPECT_EQ(probe["greedy"].size(), 3u);
    EXPECT_EQ(PathExists(out + "/modeling_nsa_moe.py"), recipe.uses_nsa());
  }
}

INSTANTIATE_TEST_SUITE_P(All, Exports, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

// An exported folder with one thing in it changed is told from the model.
class Changed : public testing::Test {
 protected:
  void Export(const Case& c) {
    recipe_ = RecipeOf(c, dir_ / "run");
    test::WriteRun(recipe_);
    const auto summary = ExportRun({.run_dir = recipe_.run.dir,
                                    .out_dir = dir_ / "out",
                                    .dtype = DType::kF32,
                                    .probe_tokens = 97});
    ASSERT_TRUE(summary.ok()) << summary.status();
    probe_ = summary->probe;
    absl::StatusOr<LoadedModel> loaded =
        LoadModel(recipe_.run.dir, 0, {.overrides = {}, .full_precision = true});
    ASSERT_TRUE(loaded.ok());
    run_ = *std::move(loaded);
    trained_ = TraceModel(run_.model, recipe_, probe_.ids);
    config_ = json::parse(test::FileText(dir_ / "out/config.json"));
    EXPECT_TRUE(Verify().ok());
  }
  absl::Status Verify() {
    return VerifyExport(dir_ / "out", run_.model, recipe_, probe_, trained_).status();
  }
  // The complaint about config.json with this value in it.
  std::string With(const char* pointer, const json& value) {
    json changed = config_;
    changed[json::json_pointer(pointer)] = value;
    std::ofstream(dir_ / "out/config.json") << changed.dump();
    const absl::Status status = Verify();
    EXPECT_FALSE(status.ok()) << pointer << " = " << value << " changes nothing";
    return Message(status);
  }

  test::TempDir dir_;
  Recipe recipe_;
  LoadedModel run_;
  Probe probe_;
  ModelTrace trained_;
  json config_;
};

TEST_F(Changed, SparseAttention) {
  Export(kCases[5]);
  const std::string differs = "logits differ by", blocks = "choices of selected blocks differ";
  EXPECT_THAT(With("/nsa_config/window", 11), HasSubstr(differs));
  EXPECT_THAT(With("/nsa_config/select_topk", 5), HasSubstr(blocks));
  EXPECT_THAT(With("/nsa_config/local_blocks", 1), HasSubstr(blocks));
  EXPECT_THAT(With("/nsa_config/init_blocks", 0), HasSubstr(blocks));
  EXPECT_THAT(With("/nsa_config/select_block", 16), HasSubstr(differs));
  EXPECT_THAT(With("/nsa_config/compress_stride", 8), HasSubstr(differs));
  EXPECT_THAT(With("/nsa_config/phi_activation", "gelu_tanh"), HasSubstr(differs));
  EXPECT_THAT(With("/rms_norm_eps", 0.1), HasSubstr(differs));
  EXPECT_THAT(With("/nsa_config/compress_block", 4), HasSubstr("is F32 [8, 12], expected"));
  EXPECT_THAT(With("/attention", "full"), HasSubstr("has no tensor"));
  EXPECT_THAT(With("/use_qk_norm", false), HasSubstr("is no part of the model"));
  EXPECT_THAT(With("/tie_word_embeddings", false), HasSubstr("has no tensor \"lm_head.weight\""));
}

TEST_F(Changed, RotaryFrequencies) {
  Export(kCases[1]);
  EXPECT_THAT(With("/rope_parameters/attention_factor", 1.0), HasSubstr("attention factor 1,"));
  EXPECT_THAT(With("/rope_parameters/factor", 2.0), HasSubstr("rotary frequency"));
  EXPECT_THAT(With("/rope_parameters/beta_fast", 32.0), HasSubstr("rotary frequency"));
  EXPECT_THAT(With("/rope_parameters/original_max_position_embeddings", 256),
              HasSubstr("rotary frequency"));
  EXPECT_THAT(With("/rope_parameters/rope_theta", 1000.0), HasSubstr("rotary frequency"));
  EXPECT_THAT(With("/rope_parameters/rope_type", "default"), HasSubstr("attention factor"));
  EXPECT_THAT(With("/rope_parameters/partial_rotary_factor", 0.5), HasSubstr("3 rotary"));
}

TEST_F(Changed, Experts) {
  Export(kCases[0]);
  EXPECT_THAT(With("/norm_topk_prob", false), HasSubstr("logits differ by"));
  EXPECT_THAT(With("/routed_scaling_factor", 1.0), HasSubstr("logits differ by"));
  EXPECT_THAT(With("/first_k_dense_replace", 0), HasSubstr("has no tensor"));
  EXPECT_THAT(With("/n_routed_experts", 4), HasSubstr("expected BF16 or F32 [4, 20]"));
  EXPECT_THAT(With("/n_shared_experts", 1), HasSubstr("expected BF16 or F32 [12, 20]"));
  EXPECT_THAT(With("/num_hidden_layers", 2), HasSubstr("is no part of the model"));
  EXPECT_THAT(With("/num_key_value_heads", 4), HasSubstr("self_attn.k_proj.weight"));
}

// Any weight that is not the model's.
TEST_F(Changed, Weights) {
  Export(kCases[4]);
  const std::string path = dir_ / "out/model.safetensors", good = test::FileText(path);
  absl::StatusOr<SafetensorsReader> reader = SafetensorsReader::Open(path);
  ASSERT_TRUE(reader.ok());
  const auto data_begin =
      static_cast<size_t>(static_cast<int64_t>(good.size()) - reader->tensors().back().end);
  for (const SafetensorsEntry& entry : reader->tensors()) {
    // Rows of words that the probe does not have matter to nobody; experts 3 and 4 may be idle.
    if (entry.name.find("embed_tokens") != std::string::npos ||
        entry.name.find(".experts.") != std::string::npos)
      continue;
    std::string bad = good;
    for (int64_t at = entry.begin; at < entry.end; at += 4) {
      float value = 0;
      std::memcpy(&value, &bad[data_begin + static_cast<size_t>(at)], 4);
      value = value * 1.5f + 0.01f;
      std::memcpy(&bad[data_begin + static_cast<size_t>(at)], &value, 4);
    }
    std::ofstream(path, std::ios::binary) << bad;
    EXPECT_FALSE(Verify().ok()) << entry.name;
  }
}

// A model that cannot be compared is not exported.
TEST(ExportRun, AComparisonThatFailsLeavesNothing) {
  const test::TempDir dir;
  const Recipe recipe = test::SmallRecipe(AttentionKind::kFull, dir / "run");
  test::WriteRun(recipe, [](NamedTensor& tensor) {
    if (tensor.name == "norm.weight") tensor.tensor.mutable_data<float>()[3] = NAN;
  });
  const auto summary = ExportRun({.run_dir = dir / "run", .out_dir = dir / "out"});
  EXPECT_EQ(ExitCodeOf(summary.status()), ExitCode::kCheckpoint);
  EXPECT_THAT(Message(summary.status()),
              testing::MatchesRegex(".*/checkpoints/step_7: the exported folder does not compute "
                                    "what the model does, nothing was written: logits differ by "
                                    "inf at token 0 .allowed .*"));
  EXPECT_THAT(*ListDirectory(dir.path(), ExitCode::kData), testing::ElementsAre("run"));
}

TEST(ExportRun, LargeModelsHaveSeveralFiles) {
  const test::TempDir dir;
  const Recipe recipe = test::SmallRecipe(AttentionKind::kNsa, dir / "run");
  test::WriteRun(recipe);
  ExportOptions options{.run_dir = dir / "run", .out_dir = dir / "out", .probe_tokens = 60};
  options.max_file_bytes = 40'000;
  const auto summary = ExportRun(options);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_GT(summary->facts.files.size(), 1u);
  for (const std::string& file : summary->facts.files)
    EXPECT_LT(std::filesystem::file_size(dir / ("out/" + file)), 40'000u + 20'000u) << "header";
  const auto folder = SafetensorsFolder::Open(dir / "out");
  ASSERT_TRUE(folder.ok()) << folder.status();
  // A layer is in one file.
  std::map<std::string, std::string> file_of;
  for (const auto& [name, item] : folder->tensors()) {
    if (!name.starts_with("model.layers.")) continue;
    const std::string layer = name.substr(0, 14);
    EXPECT_EQ(file_of.emplace(layer, item.file->path()).first->second, item.file->path()) << name;
  }
  EXPECT_EQ(file_of.size(), 3u);
}

TEST(ExportRun, MakesANewFolderOrNone) {
  const test::TempDir dir;
  const Recipe recipe = test::SmallRecipe(AttentionKind::kFull, dir / "run");
  test::WriteRun(recipe);
  const auto refusal = [&](const ExportOptions& options, ExitCode code) {
    const auto summary = ExportRun(options);
    EXPECT_EQ(ExitCodeOf(summary.status()), code) << summary.status();
    return Message(summary.status());
  };
  const ExportOptions good{.run_dir = dir / "run", .out_dir = dir / "out"};
  std::ofstream(dir / "file") << "x";
  ExportOptions bad = good;
  bad.out_dir = dir / "file";
  EXPECT_THAT(refusal(bad, ExitCode::kConfig), HasSubstr("file: is there and no folder"));
  bad.out_dir = dir / "run";
  EXPECT_THAT(refusal(bad, ExitCode::kConfig), HasSubstr("run: is not empty"));
  bad = good;
  bad.step = 3;
  EXPECT_THAT(refusal(bad, ExitCode::kCheckpoint), HasSubstr("has no checkpoint of step 3"));
  bad = good;
  bad.architecture = ExportArchitecture::kNsaMoe;
  bad.run_dir = dir / "none";
  refusal(bad, ExitCode::kCheckpoint);
  json tokenizer = json::parse(test::ByteTokenizerJson());
  tokenizer["added_tokens"].push_back(tokenizer["added_tokens"].back());
  tokenizer["added_tokens"].back()["id"] = tokenizer["added_tokens"].size() + 256;
  tokenizer["added_tokens"].back()["content"] = "<|another|>";
  std::ofstream(recipe.data.tokenizer) << tokenizer.dump();
  EXPECT_THAT(refusal(good, ExitCode::kData), HasSubstr("is not the tokenizer that"));
  std::filesystem::remove(recipe.data.tokenizer);
  refusal(good, ExitCode::kData);
  EXPECT_EQ(ListDirectory(dir.path(), ExitCode::kData)->size(), 2u) << "something is left";

  std::ofstream(recipe.data.tokenizer) << test::ByteTokenizerJson();
  std::filesystem::create_directory(dir / "out");
  ASSERT_TRUE(ExportRun(good).ok());
  EXPECT_THAT(*ListDirectory(dir / "out", ExitCode::kData),
              testing::UnorderedElementsAre("config.json", "export_report.json",
                                            "generation_config.json", "model.safetensors",
                                            "parity_probe.json", "special_tokens_map.json",
                                            "tokenizer.json", "tokenizer_config.json"));
  EXPECT_THAT(refusal(good, ExitCode::kConfig), HasSubstr("out: is not empty"));
  EXPECT_EQ(ListDirectory(dir.path(), ExitCode::kData)->size(), 3u);
  const json tokens = json::parse(test::FileText(dir / "out/special_tokens_map.json"));
  EXPECT_EQ(tokens["eos_token"], "<|endoftext|>");
  const json generation = json::parse(test::FileText(dir / "out/generation_config.json"));
  EXPECT_EQ(generation["eos_token_id"], json({test::kByteEod}));
  EXPECT_EQ(test::FileText(dir / "out/tokenizer.json"), test::ByteTokenizerJson());
}

}  // namespace
}  // namespace lacuna
