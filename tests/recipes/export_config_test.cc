// config.json, written and read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipes/export/hf_config.h"
#include "recipes/export/reference_config.h"
#include "recipes/schema/recipe_keys.h"
#include "tests/recipes/export_fixture.h"

namespace lacuna {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr SpecialIds kIds{.bos = 1, .eos = 2, .pad = 3};

json Config(const Recipe& recipe, ExportArchitecture architecture, int generation = 5) {
  const auto config = HfConfig(recipe, architecture, DType::kBF16, generation, kIds);
  LACUNA_CHECK(config.ok(), "{}", Message(config.status()));
  return json::parse(config->dump());
}

Recipe WithYarn(AttentionKind attention) {
  Recipe recipe = test::SmallRecipe(attention, "none");
  recipe.model.yarn = {.factor = 4, .original_length = 64, .beta_fast = 8, .beta_slow = 2};
  return recipe;
}

TEST(HfConfig, Glm4Moe) {
  const Recipe recipe = WithYarn(AttentionKind::kFull);
  const json config = Config(recipe, ExportArchitecture::kGlm4Moe);
  EXPECT_EQ(config["architectures"], json({"Glm4MoeForCausalLM"}));
  EXPECT_EQ(config["model_type"], "glm4_moe");
  EXPECT_EQ(config["dtype"], "bfloat16");
  EXPECT_EQ(config["head_dim"], 12);
  EXPECT_EQ(config["first_k_dense_replace"], 1);
  EXPECT_EQ(config["n_shared_experts"], 2);
  EXPECT_EQ(config["eos_token_id"], json({2}));
  EXPECT_EQ(config["num_nextn_predict_layers"], 0);
  EXPECT_EQ(config["max_position_embeddings"], 256);
  EXPECT_FALSE(config.contains("v_head_dim")) << "readers would size their caches by it";
  EXPECT_FALSE(config.contains("auto_map"));
  EXPECT_EQ(config["rope_parameters"]["rope_type"], "yarn");
  EXPECT_EQ(config["rope_parameters"]["original_max_position_embeddings"], 64);
  EXPECT_NEAR(config["rope_parameters"]["attention_factor"].get<double>(), 0.1 * std::log(4.0) + 1,
              1e-15);
  EXPECT_EQ(config["rope_parameters"]["partial_rotary_factor"], config["partial_rotary_factor"]);
  EXPECT_EQ(config["rope_parameters"]["rope_theta"], config["rope_theta"]);
  EXPECT_FALSE(config.contains("rope_scaling"));
  const json older = Config(recipe, ExportArchitecture::kGlm4Moe, 4);
  EXPECT_FALSE(older.contains("rope_parameters"));
  EXPECT_EQ(older["rope_scaling"]["factor"], 4.0);
  EXPECT_EQ(older["rope_theta"], 100.0);
}

// "routed_scaling_factor": 1 is an error to some readers.
TEST(HfConfig, FloatsHaveAPoint) {
  Recipe recipe = WithYarn(AttentionKind::kFull);
  recipe.moe.routed_scale = 1;
  recipe.model.rope_theta = 1e6;
  for (const int generation : {4, 5}) {
    const auto config = HfConfig(recipe, ExportArchitecture::kGlm4Moe, DType::kF32, generation, {});
    ASSERT_TRUE(config.ok());
    const std::string text = config->dump();
    for (const char* part : {"\"routed_scaling_factor\":1.0,", "\"rope_theta\":1000000.0",
                             "\"factor\":4.0,", "\"beta_fast\":8.0,", "\"beta_slow\":2.0,",
                             "\"attention_dropout\":0.0,", "\"rms_norm_eps\":1e-05"})
      EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(HfConfig, RotaryDimsSurviveTheFactor) {
  for (int64_t width = 2; width <= 300; ++width) {
    for (int64_t dims = 2; dims <= width; dims += 2) {
      const double factor = PartialRotaryFactor(dims, width);
      EXPECT_EQ(static_cast<int64_t>(static_cast<double>(width) * factor), dims);
      EXPECT_LE(factor, 1.0);
    }
  }
  EXPECT_THROW(PartialRotaryFactor(3, 12), Error);
}

TEST(HfConfig, RefusesWhatGlm4MoeCannotExpress) {
  const auto refusal = [](auto change) {
    Recipe recipe = test::SmallRecipe(AttentionKind::kFull, "none");
    change(&recipe);
    const absl::Status status = CheckExpressible(recipe, ExportArchitecture::kGlm4Moe);
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kConfig);
    EXPECT_TRUE(CheckExpressible(recipe, ExportArchitecture::kNsaMoe).ok());
    EXPECT_THAT(Message(status), HasSubstr("--architecture nsa_moe exports it"));
    return Message(status);
  };
  EXPECT_THAT(refusal([](Recipe* r) { r->moe.router = RouterKind::kSoftmax; }),
              HasSubstr("moe.router = softmax: the router of glm4_moe is sigmoid"));
  EXPECT_THAT(refusal([](Recipe* r) { r->model.attention = AttentionKind::kNsa; }),
              HasSubstr("model.attention = nsa: glm4_moe has full attention only"));
  EXPECT_THAT(refusal([](Recipe* r) { r->moe.num_shared = 0; }), HasSubstr("moe.num_shared = 0"));
  EXPECT_THAT(refusal([](Recipe* r) { r->model.head_dim_v = 16; }),
              HasSubstr("model.head_dim_v = 16"));
  EXPECT_TRUE(CheckExpressible(test::SmallRecipe(AttentionKind::kFull, "none"),
                               ExportArchitecture::kGlm4Moe)
                  .ok());
}

TEST(HfConfig, PositionsAreWhole) {
  Recipe recipe = WithYarn(AttentionKind::kNsa);
  EXPECT_EQ(*MaxPositions(recipe), 256);
  recipe.model.yarn.factor = 1;
  EXPECT_EQ(*MaxPositions(recipe), recipe.train.sequence_length);
  recipe.model.yarn = {.factor = 1.3, .original_length = 64};
  EXPECT_THAT(Message(MaxPositions(recipe).status()), HasSubstr("model.yarn.factor = 1.3"));
  EXPECT_FALSE(HfConfig(recipe, ExportArchitecture::kNsaMoe, DType::kF32, 5, {}).ok());
}

// The sections of a recipe that a folder knows come back as they were.
TEST(ImportedConfig, UndoesTheExport) {
  std::vector<std::pair<Recipe, ExportArchitecture>> cases = {
      {WithYarn(AttentionKind::kFull), ExportArchitecture::kGlm4Moe},
      {WithYarn(AttentionKind::kNsa), ExportArchitecture::kNsaMoe},
      {test::SmallRecipe(AttentionKind::kNsa, "none"), ExportArchitecture::kNsaMoe},
      {test::SmallRecipe(AttentionKind::kFull, "none"), ExportArchitecture::kNsaMoe}};
  Recipe& odd = cases[2].first;
  odd.model.qk_norm = odd.model.tie_embeddings = true;
  odd.nsa.phi = PhiKind::kLinear;
  odd.nsa.activation = PhiActivation::kGeluTanh;
  odd.moe.normalize_weights = false;
  cases[3].first.moe.router = RouterKind::kSoftmax;
  for (const auto& [recipe, architecture] : cases) {
    for (const int generation : {4, 5}) {
      const auto read =
          ReadHfConfig(Config(recipe, architecture, generation), "c.json",
                       architecture == ExportArchitecture::kGlm4Moe ? recipe.model.head_dim_v : 0);
      ASSERT_TRUE(read.ok()) << read.status();
      EXPECT_EQ(read->architecture, architecture);
      Recipe again = recipe;
      again.model = read->model;
      if (recipe.uses_nsa()) again.nsa = read->nsa;
      const double rate = again.moe.bias_update_rate;
      again.moe = read->moe;
      again.moe.bias_update_rate = rate;
      // original_length, beta_* mean nothing and are not written without YaRN.
      if (recipe.model.yarn.factor == 1) again.model.yarn = recipe.model.yarn;
      EXPECT_EQ(ToYaml(again), ToYaml(recipe));
    }
  }
}

TEST(ImportedConfig, RefusesWhatLacunaComputesOtherwise) {
  const json good = Config(WithYarn(AttentionKind::kNsa), ExportArchitecture::kNsaMoe);
  const auto refusal = [&](const char* pointer, const json& value) {
    json config = good;
    if (value.is_discarded()) {
      const json::json_pointer at(pointer);
      config[at.parent_pointer()].erase(at.back());
    } else {
      config[json::json_pointer(pointer)] = value;
    }
    const auto read = ReadHfConfig(config, "c.json", 0);
    EXPECT_EQ(ExitCodeOf(read.status()), ExitCode::kData) << pointer;
    return Message(read.status());
  };
  const json absent(json::value_t::discarded);
  EXPECT_EQ(refusal("/model_type", "llama"),
            R"(c.json: model_type: found "llama", expected "glm4_moe" or "nsa_moe")");
  EXPECT_EQ(refusal("/hidden_act", "gelu"), R"(c.json: hidden_act: found "gelu", expected "silu")");
  EXPECT_EQ(refusal("/n_group", 8), "c.json: n_group: found 8, expected 1");
  EXPECT_EQ(refusal("/attention_bias", true), "c.json: attention_bias: found true, expected false");
  EXPECT_EQ(refusal("/head_dim", absent), "c.json: head_dim: missing, expected a whole number");
  EXPECT_EQ(refusal("/head_dim", "12"), R"(c.json: head_dim: found "12", expected a whole number)");
  EXPECT_EQ(refusal("/scoring_func", "noaux"),
            R"(c.json: scoring_func: found "noaux", expected sigmoid | softmax)");
  EXPECT_EQ(refusal("/nsa_config/window", absent),
            "c.json: nsa_config: window: missing, expected a whole number");
  EXPECT_THAT(refusal("/nsa_config", absent), HasSubstr("nsa_config: missing"));
  EXPECT_THAT(refusal("/nsa_config/select_topk", 1), HasSubstr("nsa.num_selected = 1"));
  EXPECT_EQ(refusal("/nsa_config/shared_kv", true),
            "c.json: nsa_config: shared_kv: found true, expected false");
  EXPECT_THAT(refusal("/rope_parameters/rope_type", "llama3"), HasSubstr("found \"llama3\""));
  EXPECT_THAT(refusal("/rope_parameters/attention_factor", 1.0),
              HasSubstr("attention_factor: found 1.0, expected 0.1 ln(factor) + 1 = 1.138"));
  EXPECT_THAT(refusal("/rope_parameters/truncate", false), HasSubstr("truncate"));
  EXPECT_THAT(refusal("/num_key_value_heads", 3), HasSubstr("model.num_heads = 4"));
}

}  // namespace
}  // namespace lacuna
