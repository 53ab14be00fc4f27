#include "recipes/schema/recipe.h"

#include <algorithm>
#include <cctype>

#include "core/status.h"
#include "recipes/schema/recipe_keys.h"
#include "recipes/schema/yaml_reader.h"

namespace lacuna {
namespace {

// Puts the place of the key that a violation starts with in front of it; the recipe's name where
// the key was not given.
std::string WithPlace(const std::string& violation, const std::string& name,
                      const ReadReport& report) {
  const std::string path = violation.substr(0, violation.find_first_of(" :"));
  const auto where = report.where.find(path);
  return fmt::format("{}: {}", where != report.where.end() ? where->second : name, violation);
}

// Does `violation` speak of a key that could not be read (and has its default now)? Then it would
// only add noise.
bool SpeaksOf(const std::string& violation, const std::string& path) {
  const auto is_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  for (size_t at = violation.find(path); at != violation.npos; at = violation.find(path, at + 1)) {
    const size_t end = at + path.size();
    const bool starts = at == 0 || !(is_name(violation[at - 1]) || violation[at - 1] == '.');
    if (starts && (end == violation.size() || !is_name(violation[end]))) return true;
  }
  return false;
}

absl::Status Violations(const std::string& name, const std::vector<std::string>& lines) {
  if (lines.size() == 1) return ConfigError("{}", lines[0]);
  constexpr size_t kShown = 50;
  std::string message = fmt::format("{}: {} problems", name, lines.size());
  for (size_t i = 0; i < std::min(lines.size(), kShown); ++i)
    message.append("\n  ").append(lines[i]);
  if (lines.size() > kShown) message += fmt::format("\n  ... and {} more", lines.size() - kShown);
  return ConfigError("{}", message);
}

}  // namespace

absl::StatusOr<Recipe> ParseRecipe(const std::string& text, const std::string& name,
                                   const std::vector<std::string>& overrides, int64_t ranks) {
  ReadReport report;
  for (const KeyInfo& key : RecipeKeys()) report.all_paths.push_back(key.path);
  LACUNA_ASSIGN_OR_RETURN(YamlNode root, ParseYaml(text, name, &report.violations));
  for (const std::string& assignment : overrides)
    LACUNA_RETURN_IF_ERROR(ApplyOverride(assignment, &root));
  if (root.kind == YamlNode::Kind::kNull)
    return ConfigError("{}: empty; a recipe has sections run, model, data, train, ...", name);
  if (root.kind != YamlNode::Kind::kMap) {
    return ConfigError("{}: expected sections run, model, data, train, ..., got {}", root.where,
                       Found(root));
  }
  Recipe recipe;
  ReadSection(root, "", &recipe, &report);
  std::vector<std::string> violations;
  ValidateRecipe(recipe, ranks, &violations);
  for (const std::string& violation : violations) {
    const auto speaks_of = [&](const std::string& path) { return SpeaksOf(violation, path); };
    if (std::any_of(report.unread.begin(), report.unread.end(), speaks_of)) continue;
    report.violations.push_back(WithPlace(violation, name, report));
  }
  if (!report.violations.empty()) return Violations(name, report.violations);
  return recipe;
}

absl::StatusOr<Recipe> LoadRecipe(const std::string& path,
                                  const std::vector<std::string>& overrides, int64_t ranks) {
  LACUNA_ASSIGN_OR_RETURN(const std::string text, ReadYamlFile(path));
  return ParseRecipe(text, path, overrides, ranks);
}

std::string ToYaml(const Recipe& recipe) {
  std::string text;
  WriteSection(recipe, 0, &text);
  return text;
}

std::vector<KeyInfo> RecipeKeys() {
  std::vector<KeyInfo> keys;
  DescribeSection(Recipe{}, "", &keys);
  return keys;
}

}  // namespace lacuna
