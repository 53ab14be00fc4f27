// Recipes: YAML.
#include "recipes/schema/recipe.h"
#include "tests/fuzz/target.h"
#include "tests/recipes/schema_texts.h"

namespace lacuna::test {

FuzzTarget RecipeTarget() {
  FuzzTarget target;
  target.name = "recipe";
  target.uncovered = "no checksum: people write it; what it resolves to is kept with the run";
  target.code = ExitCode::kConfig;
  target.place = "r.yaml";
  const auto resolved = ParseRecipe(kValidRecipe, "r.yaml", {}, 1);
  target.seeds = {kValidRecipe, ToYaml(*resolved)};
  target.words = {"[",    "]",      "{",  "}",    ": ",   "- ",          "\n",   "\n  ", "&a ",
                  "*a",   "<<: *a", "!!", "? ",   "| ",   "> ",          "---",  "...",  "\t",
                  "#",    "\"",     "'",  ".nan", "0x10", "null",        "true", "~",    "nsa",
                  "full", "1e3",    "-0", ",",    "\\x",  "\xEF\xBB\xBF"};
  target.read = [](const std::string& bytes) -> Reading {
    const auto recipe = ParseRecipe(bytes, "r.yaml", {}, 1);
    // A list of violations has a line each, which schema_fuzz_test looks at.
    if (!recipe.ok())
      return {ConfigError("{}",
                          Message(recipe.status()).substr(0, Message(recipe.status()).find('\n')))};
    const std::string text = ToYaml(*recipe);
    const auto again = ParseRecipe(text, "r.yaml", {}, 1);
    const bool same = again.ok() && ToYaml(*again) == text;
    return {absl::OkStatus(), text, same ? "" : "reads back as something else"};
  };
  return target;
}

}  // namespace lacuna::test
