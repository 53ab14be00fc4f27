// The typed schema: unknown and mistyped keys, overrides, rules within and between sections, the
// resolved recipe.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "core/random.h"
#include "recipes/schema/did_you_mean.h"
#include "recipes/schema/recipe_keys.h"
#include "recipes/schema/yaml_reader.h"
#include "tests/recipes/schema_texts.h"

namespace lacuna {
namespace {

using test::Complaint;
using test::Edited;
using testing::HasSubstr;

// A value of every kind of key that is right for its type.
std::vector<KeyInfo> ScalarKeys() {
  std::vector<KeyInfo> keys;
  for (const KeyInfo& key : RecipeKeys()) {
    if (key.type != "section" && key.type != "list" && key.path.find("[]") == key.path.npos)
      keys.push_back(key);
  }
  return keys;
}

TEST(Schema, ErrorsNameKeyPlaceAndWhatIsAllowed) {
  struct Case {
    std::string from, to, message;
  };
  const std::vector<Case> cases = {
      {"  width: 64", "  wdith: 64",
       "r.yaml:7:3: model.wdith: unknown key; did you mean model.width?"},
      {"num_layers: 2", "n_layer: 2",
       "r.yaml:6:3: model.n_layer: unknown key; did you mean model.num_layers?"},
      {"window: 64", "Window: 64",
       "r.yaml:15:64: nsa.Window: unknown key; did you mean nsa.window?"},
      {"  width: 64", "  width: 64\n  learning_rate: 1",
       "r.yaml:8:3: model.learning_rate: unknown key; did you mean optimizer.learning_rate?"},
      {"weight: 2.0", "wieght: 2.0",
       "r.yaml:24:32: data.sources[0].wieght: unknown key; did you mean data.sources[0].weight?"},
      {"  dir: runs/tiny", "  dir: runs/tiny\n  whatever: 1",
       "r.yaml:4:3: run.whatever: unknown key; allowed are name, dir, seed, stage"},
      {"nsa: {", "nas: {", "r.yaml:15:1: nas: unknown key; did you mean nsa?"},
      {"  width: 64", "  width: abc", "r.yaml:7:10: model.width: expected an integer, got \"abc\""},
      {"  width: 64", "  width: 064",
       "r.yaml:7:10: model.width: expected an integer (decimal digits only), got \"064\""},
      {"  width: 64", "  width: 1e3",
       "r.yaml:7:10: model.width: expected an integer (decimal digits only), got \"1e3\""},
      {"  width: 64", "  width: '64'",
       "r.yaml:7:10: model.width: expected an integer, got the quoted string \"64\""},
      {"  width: 64", "  width:", "r.yaml:8:3: model.width: expected an integer, got nothing"},
      {"  width: 64", "  width: 9223372036854775808",
       "r.yaml:7:10: model.width: expected an integer of at most 64 bits, got "
       "\"9223372036854775808\""},
      {"  width: 64", "  width: [64]", "r.yaml:7:10: model.width: expected an integer, got a list"},
      {"  width: 64", "  width: {a: 64}",
       "r.yaml:7:10: model.width: expected an integer, got a mapping"},
      {"learning_rate: 1e-3", "learning_rate: .nan",
       "r.yaml:28:18: optimizer.learning_rate: expected a finite number, got \".nan\""},
      {"learning_rate: 1e-3", "learning_rate: inf",
       "r.yaml:28:18: optimizer.learning_rate: expected a finite number, got \"inf\""},
      {"learning_rate: 1e-3", "learning_rate: 1e999",
       "r.yaml:28:18: optimizer.learning_rate: expected a number within the range of f64, got "
       "\"1e999\""},
      {"learning_rate: 1e-3", "learning_rate: -1",
       "r.yaml:28:18: optimizer.learning_rate = -1: must be above 0"},
      {"attention: nsa", "attention: sparse",
       "r.yaml:5:14: model.attention: expected one of full, nsa, got \"sparse\""},
      {"num_layers: 2", "num_layers: 2\n  qk_norm: yes",
       "r.yaml:7:12: model.qk_norm: expected true or false, got \"yes\""},
      {"  dir: runs/tiny", "  dir: \"a\\tb\"",
       "r.yaml:3:8: run.dir: expected a string without control characters, got the quoted string "
       "\"a b\""},
      {"  steps: 100", "  steps: 100\n  recompute: [moe]",
       "r.yaml:34:15: train.recompute: expected none, block, or a list of attention, feed_forward, "
       "got \"moe\""},
      {"nsa: {block: 16, stride: 8, select_block: 32, num_selected: 4, window: 64}", "nsa: 3",
       "r.yaml:15:6: nsa: expected keys, got \"3\""},
      {"nsa: {block: 16, stride: 8, select_block: 32, num_selected: 4, window: 64}",
       "nsa:", "r.yaml:16:1: nsa: expected keys, got nothing"},
      {"    - {name: web, path: t/web, weight: 2.0}", "    - web",
       "r.yaml:24:7: data.sources[0]: expected keys, got \"web\""},
  };
  for (const Case& c : cases) EXPECT_EQ(Complaint(Edited(c.from, c.to)), c.message) << c.to;
  EXPECT_EQ(Complaint("[1, 2]\n"),
            "r.yaml:1:1: expected sections run, model, data, train, ..., got a list");
}

TEST(Schema, RulesNameKeysAndValues) {
  struct Case {
    std::string from, to, message;
  };
  const std::vector<Case> cases = {
      {"num_heads: 4", "num_heads: 5",
       "r.yaml:9:14: model.num_heads = 5: must be a multiple of model.num_groups = 2"},
      {"rotary_dims: 8", "rotary_dims: 7",
       "r.yaml:13:16: model.rotary_dims = 7: must be even and in 2..model.head_dim_qk = 24"},
      {"rotary_dims: 8", "rotary_dims: 26",
       "r.yaml:13:16: model.rotary_dims = 26: must be even and in 2..model.head_dim_qk = 24"},
      {"num_layers: 2", "num_layers: 0\n  num_dense_layers: 0",
       "r.yaml:6:15: model.num_layers = 0: must be in 1..1024"},
      {"num_layers: 2", "num_layers: 2\n  num_dense_layers: 3",
       "r.yaml:7:21: model.num_dense_layers = 3: must be in 0..model.num_layers = 2"},
      {"experts_per_token: 2", "experts_per_token: 5",
       "r.yaml:18:22: moe.experts_per_token = 5: must be 1 to moe.num_experts = 4"},
      {"num_experts: 4", "num_experts: 9000",
       "r.yaml:17:16: moe.num_experts = 9000: must be at most 8192"},
      {"block: 16, stride: 8", "block: 12, stride: 8",
       "r.yaml:15:14: nsa.block = 12: must be a multiple of nsa.stride = 8"},
      {"select_block: 32", "select_block: 36",
       "r.yaml:15:43: nsa.select_block = 36: must be a multiple of nsa.stride = 8"},
      {"select_block: 32", "select_block: 8",
       "r.yaml:15:43: nsa.select_block = 8: must be at least nsa.block = 16"},
      {"num_selected: 4", "num_selected: 2",
       "r.yaml:15:61: nsa.num_selected = 2: must be at least nsa.num_init + nsa.num_local = 3"},
      {"window: 64", "window: 0", "r.yaml:15:72: nsa.window = 0: must be in 1..16777216"},
      {"global_batch: 8", "global_batch: 8\n  micro_batch: 3",
       "r.yaml:32:17: train.global_batch = 8: must be a multiple of 1 rank times train.micro_batch "
       "= 3"},
      {"warmup_steps: 10", "warmup_steps: 101",
       "r.yaml:29:17: optimizer.warmup_steps = 101: must be at most train.steps = 100"},
      {"warmup_steps: 10", "warmup_steps: 10\n  schedule: wsd\n  decay_steps: 91",
       "r.yaml:31:16: optimizer.decay_steps = 91: must be at most train.steps = 100 less "
       "optimizer.warmup_steps = 10"},
      {"warmup_steps: 10", "warmup_steps: 10\n  decay_steps: 9",
       "r.yaml:30:16: optimizer.decay_steps = 9: must be 0 where optimizer.schedule is not wsd"},
      {"steps: 100", "steps: 100\n  recompute_keeps: attention",
       "r.yaml:34:20: train.recompute_keeps = attention: must be none where train.recompute runs "
       "no attention again (block, [attention])"},
      {"steps: 100", "steps: 100\n  recompute_keeps: attention\n  recompute: [feed_forward]",
       "r.yaml:34:20: train.recompute_keeps = attention: must be none where train.recompute runs "
       "no attention again (block, [attention])"},
      {"sequence_length: 256", "sequence_length: 0",
       "r.yaml:31:20: train.sequence_length = 0: must be in 1..16777216"},
      {"rotary_dims: 8", "rotary_dims: 8\n  yarn: {factor: 2.0, original_length: 100}",
       "r.yaml:32:20: train.sequence_length = 256: must be at most model.yarn.factor = 2 times "
       "model.yarn.original_length = 100, 200 "
       "tokens"},
      {"  name: tiny\n", "",
       "r.yaml: run.name = \"\": must be given, 1 to 100 of letters, digits, '.', '_' and '-', not "
       "starting with '.'"},
      {"name: tiny", "name: ../tiny",
       "r.yaml:2:9: run.name = \"../tiny\": must be given, 1 to 100 of letters, digits, '.', '_' "
       "and '-', not starting with '.'"},
  };
  for (const Case& c : cases) EXPECT_EQ(Complaint(Edited(c.from, c.to)), c.message) << c.to;
  EXPECT_EQ(Complaint(test::kValidRecipe, {}, 8), "");
  EXPECT_EQ(Complaint(test::kValidRecipe, {}, 3),
            "r.yaml:32:17: train.global_batch = 8: must be a multiple of 3 ranks times "
            "train.micro_batch = 1");
}

TEST(Schema, SectionsThatAreNotReadAreNotJudged) {
  // The twin recipes differ in model.attention alone, so the other's section stays.
  const std::string text = Edited("num_selected: 4", "num_selected: 1");
  EXPECT_THAT(Complaint(text), HasSubstr("nsa.num_selected = 1"));
  EXPECT_EQ(Complaint(text, {"model.attention=full"}), "");
  EXPECT_THAT(Complaint(text, {"model.attention=full", "nsa.num_selected=x"}),
              HasSubstr("--set nsa.num_selected: nsa.num_selected: expected"));
  EXPECT_EQ(Complaint(Edited("experts_per_token: 2", "experts_per_token: 5"),
                      {"model.num_dense_layers=2"}),
            "");
}

TEST(Schema, AllViolationsAreReportedAtOnceAndOnlyOnce) {
  std::string text = Edited("num_heads: 4", "num_heads: 5");
  text.replace(text.find("  width: 64"), 11, "  width: 6e1");
  text.replace(text.find("vocab_size"), 10, "vocabsize");
  text += "run: {}\n";
  EXPECT_EQ(Complaint(text, {"train.global_batch=7", "train.micro_batch=2"}),
            "r.yaml: 5 problems\n"
            "  r.yaml:34:1: run: duplicate key, first given at r.yaml:1:1\n"
            "  r.yaml:7:10: model.width: expected an integer (decimal digits only), got \"6e1\"\n"
            "  r.yaml:8:3: model.vocabsize: unknown key; did you mean model.vocab_size?\n"
            "  r.yaml:9:14: model.num_heads = 5: must be a multiple of model.num_groups = 2\n"
            "  --set train.global_batch: train.global_batch = 7: must be a multiple of 1 rank "
            "times train.micro_batch = 2");
  // A key that could not be read has its default; rules must not judge that.
  EXPECT_EQ(Complaint(Edited("num_experts: 4", "num_experts: four"), {"moe.experts_per_token=73"}),
            "r.yaml:17:16: moe.num_experts: expected an integer, got \"four\"");
}

TEST(Schema, OverridesGoThroughTheSameParsers) {
  const auto parse = [](const std::vector<std::string>& overrides) {
    return ParseRecipe(test::kValidRecipe, "r.yaml", overrides, 1);
  };
  const auto recipe = parse({"model.width=128", "model.width=96", "model.yarn.factor=4",
                             "data.sources[1].weight=0.5", "data.sources.0.name=books",
                             "train.recompute_keeps=attention", "train.recompute=[attention]",
                             "run.dir=\"a b\"", "data.validation=[{name: v, path: p}]"});
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->model.width, 96);
  EXPECT_EQ(recipe->model.yarn.factor, 4.0);
  EXPECT_EQ(recipe->data.sources[1].weight, 0.5);
  EXPECT_EQ(recipe->data.sources[0].name, "books");
  EXPECT_TRUE(recipe->train.recompute.attention);
  EXPECT_FALSE(recipe->train.recompute.feed_forward);
  EXPECT_TRUE(recipe->train.recompute.keeps_attention());
  EXPECT_EQ(recipe->run.dir, "a b");
  EXPECT_EQ(recipe->data.validation[0].path, "p");

  const std::vector<std::pair<std::string, std::string>> cases = {
      {"model.width", "--set model.width: expected section.key=value"},
      {"=3", "--set =3: expected section.key=value"},
      {"model.width=", "--set model.width: model.width: expected an integer, got nothing"},
      {"model.width=010",
       "--set model.width: model.width: expected an integer (decimal digits only), got \"010\""},
      {"model.wdith=1", "--set model.wdith: model.wdith: unknown key; did you mean model.width?"},
      {"modle.width=1", "--set modle.width: modle: unknown key; did you mean model?"},
      {"width=1", "--set width: width: unknown key; did you mean model.width?"},
      {"model=1", "--set model: model: expected keys, got \"1\""},
      {"model={width: 1}", "--set model: a section of its own; set one of its keys"},
      {"model.width.x=1", "--set model.width.x: model.width is a single value and has no keys"},
      {"data.sources[2].weight=1",
       "--set data.sources[2].weight: data.sources has 2 elements, numbered from 0"},
      {"model.width=[1", "--set model.width: a key must be a plain name (an unclosed bracket?)"},
      {"model.width=1\n---\n2",
       "--set model.width: a second document starts here; a recipe is one document"},
      {"model.yarn={factor: 1, factor: 2}",
       "--set model.yarn: factor: duplicate key, first given at --set model.yarn"},
      {"optimizer.learning_rate=0",
       "--set optimizer.learning_rate: optimizer.learning_rate = 0: must be above 0"},
  };
  for (const auto& [assignment, message] : cases)
    EXPECT_EQ(Complaint(test::kValidRecipe, {assignment}), message) << assignment;
}

// Every key in turn: a wrong spelling, a second value, a value of another type.
TEST(Schema, EveryKeyIsGuarded) {
  int checked = 0;
  for (const KeyInfo& key : ScalarKeys()) {
    const size_t dot = key.path.rfind('.');
    const std::string section = key.path.substr(0, dot), name = key.path.substr(dot + 1);
    for (size_t i = 0; i + 1 < name.size(); ++i) {
      std::string doubled = name, swapped = name;
      doubled.insert(i, 1, name[i]);
      std::swap(swapped[i], swapped[i + 1]);
      for (const std::string& wrong : {doubled, swapped}) {
        if (wrong == name) continue;
        EXPECT_THAT(Complaint(test::kValidRecipe, {fmt::format("{}.{}=1", section, wrong)}),
                    HasSubstr(fmt::format("{}.{}: unknown key; did you mean {}?", section, wrong,
                                          key.path)));
        ++checked;
      }
    }
    std::vector<std::string> wrong_values = {"~", "[[1]]", "{a: 1}", "\"\\u0007\""};
    if (key.type != "string")
      wrong_values.insert(wrong_values.end(), {"'5'", ".nan", "nan", "-inf", "0x10", "010", "+1",
                                               "1_000", "1,5", "True", "yes", "a", "''", "1 2"});
    if (key.type == "integer")
      wrong_values.insert(wrong_values.end(), {"1e3", "1.0", "18446744073709551616", "-", "true"});
    if (key.type == "number")
      wrong_values.insert(wrong_values.end(), {"1e400", "1e-400", "1e", "0x1p3", "true", "1f"});
    for (const std::string& value : wrong_values) {
      EXPECT_THAT(Complaint(test::kValidRecipe, {key.path + "=" + value}),
                  HasSubstr(fmt::format("--set {0}: {0}: expected ", key.path)))
          << value;
      ++checked;
    }
  }
  EXPECT_GT(checked, 1500);
}

// Each line "key: ..." of a complete recipe, given twice.
TEST(Schema, EveryDuplicateIsFound) {
  auto recipe =
      ParseRecipe(test::kValidRecipe, "r.yaml", {"data.validation=[{name: v, path: p}]"}, 1);
  ASSERT_TRUE(recipe.ok());
  const std::string text = ToYaml(*recipe);
  int checked = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin), name = text.find_first_not_of(" -", begin),
                 colon = text.find(':', begin);
    const std::string first = text.substr(begin, colon - begin) + ": 1\n";
    std::string rest = text.substr(begin);
    // the item begins with the new line
    if (const size_t dash = rest.find_first_not_of(' '); rest[dash] == '-') rest[dash] = ' ';
    const std::string key = text.substr(name, colon - name);
    EXPECT_THAT(Complaint(text.substr(0, begin) + first + rest),
                HasSubstr(key + ": duplicate key, first given at r.yaml:"))
        << first;
    ++checked;
    begin = end + 1;
  }
  EXPECT_GT(checked, 70);
}

TEST(Schema, ResolvedRecipeReadsBackExactly) {
  auto recipe =
      ParseRecipe(test::kValidRecipe, "r.yaml", {"data.validation=[{name: v, path: p}]"}, 1);
  ASSERT_TRUE(recipe.ok());
  const std::string text = ToYaml(*recipe);
  auto again = ParseRecipe(text, "resolved.yaml", {}, 1);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ToYaml(*again), text);
  EXPECT_EQ(again->data.sources.size(), 2u);
  EXPECT_EQ(again->optimizer.learning_rate, 1e-3);
  for (const KeyInfo& key : ScalarKeys())
    EXPECT_THAT(text, HasSubstr(key.path.substr(key.path.rfind('.') + 1) + ":"));
}

TEST(Schema, EveryValueReadsBackExactly) {
  const auto read = [](const std::string& text) {
    return *ParseYaml("v: " + text + "\n", "r.yaml", nullptr);
  };
  for (uint64_t i = 0; i < 20000; ++i) {
    const PhiloxBlock block = Philox(7, i, 0);
    const uint64_t bits = static_cast<uint64_t>(block.word[0]) << 32 | block.word[1];
    double value = 0, back = 1;
    std::memcpy(&value, &bits, sizeof(value));
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(ReadScalar(read(ScalarText(value)).entries[0].value, &back), "") << ScalarText(value);
    EXPECT_EQ(std::memcmp(&value, &back, sizeof(value)), 0) << ScalarText(value);
  }
  for (const int64_t value : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::max(),
                              std::numeric_limits<int64_t>::min()}) {
    int64_t back = 1;
    ASSERT_EQ(ReadScalar(read(ScalarText(value)).entries[0].value, &back), "");
    EXPECT_EQ(back, value);
  }
  for (const std::string value : {"",         "plain",       "a b",
                                  " lead",    "trail ",      "a: b",
                                  "a #b",     "#b",          "- x",
                                  "-",        "[x]",         "{x}",
                                  "*a",       "&a",          "!t",
                                  "|",        ">",           "%d",
                                  "@",        "`",           "'",
                                  "\"",       "\\",          "\\n",
                                  "a\\\"b",   "null",        "~",
                                  "true",     "1e3",         "010",
                                  ".nan",     "<<",          "---",
                                  "...",      "?",           "? x",
                                  ",",        "caf\xC3\xA9", "\xF0\x9F\xA6\x99",
                                  "C:\\data", "/abs/x",      "./rel",
                                  ".cache/x", "../up",       "a'b",
                                  "x*"}) {
    std::string back = "unset";
    const YamlNode node = read(ScalarText(value));
    ASSERT_EQ(node.entries.size(), 1u) << value;
    ASSERT_EQ(ReadScalar(node.entries[0].value, &back), "") << value;
    EXPECT_EQ(back, value) << ScalarText(value);
  }
}

TEST(DidYouMean, NearestByEdits) {
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("ab", "ba"), 1);
  EXPECT_EQ(EditDistance("Learning-Rate", "learning_rate"), 0);
  EXPECT_EQ(NearestName("lr", {"learning_rate", "clip_norm"}), "");
  EXPECT_EQ(NearestName("beta", {"beta1", "beta2"}), "beta1");
  EXPECT_EQ(NearestName("x", {"dir", "name"}), "");
}

}  // namespace
}  // namespace lacuna
