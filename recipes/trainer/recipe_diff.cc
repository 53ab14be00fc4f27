#include "recipes/trainer/recipe_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/status.h"

namespace lacuna {
namespace {

// "section.key" -> the text of its value, for every key of a resolved recipe.
std::map<std::string, std::string> KeyValues(const std::string& yaml) {
  std::map<std::string, std::string> values;
  std::vector<std::pair<size_t, std::string>> path;  // indentation and key of the sections around
  size_t begin = 0;
  while (begin < yaml.size()) {
    const size_t end = std::min(yaml.find('\n', begin), yaml.size());
    const std::string line = yaml.substr(begin, end - begin);
    begin = end + 1;
    const size_t indent = line.find_first_not_of(" -"), colon = line.find(':', indent);
    if (indent == std::string::npos || colon == std::string::npos) continue;
    while (!path.empty() && path.back().first >= indent) path.pop_back();
    path.emplace_back(indent, line.substr(indent, colon - indent));
    if (colon + 2 > line.size()) continue;
    std::string key;
    for (const auto& [column, part] : path) key += (key.empty() ? "" : ".") + part;
    // Lists of sections repeat their keys; the values stand one after the other.
    std::string& value = values[key];
    value += (value.empty() ? "" : ", ") + line.substr(colon + 2);
  }
  return values;
}

bool IsOneOf(const std::string& key, const std::vector<std::string>& keys) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

// Keys that say where, how long and how a run is carried out, not what it computes; and the mix.
bool MayChange(const std::string& key) {
  static const std::vector<std::string> keys = {"run.name",
                                                "run.dir",
                                                "init_from.path",
                                                "data.cache",
                                                "data.tokenizer",
                                                "data.sources",
                                                "data.sources.name",
                                                "data.sources.path",
                                                "data.sources.weight",
                                                "data.validation",
                                                "data.validation.name",
                                                "data.validation.path",
                                                "train.threads",
                                                "train.device",
                                                "train.micro_batch",
                                                "train.deterministic",
                                                "train.recompute",
                                                "train.recompute_keeps",
                                                "train.checkpoint_every",
                                                "train.async_checkpoint",
                                                "train.keep_latest",
                                                "train.eval_every",
                                                "train.eval_samples",
                                                "train.log_every",
                                                "train.max_nonfinite_steps",
                                                "train.bucket_mb",
                                                "train.memory_limit_gib",
                                                "parallel.context",
                                                "parallel.expert",
                                                "parallel.expert_chunks",
                                                "parallel.zero",
                                                "parallel.shard",
                                                "parallel.timeout_seconds"};
  return IsOneOf(key, keys);
}

// What a recipe without the key meant, before there was the key.
bool IsOldMeaning(const std::string& key, const std::string& here, const std::string& there) {
  return key == "optimizer.moments" && here == "f32" && there == "absent";
}

bool DecidesTheSamples(const std::string& key) {
  static const std::vector<std::string> keys = {"run.seed", "run.stage", "data.packing",
                                                "train.sequence_length"};
  return IsOneOf(key, keys);
}

}  // namespace

std::vector<RecipeDifference> DiffRecipes(const Recipe& now, const std::string& checkpoint_recipe) {
  auto mine = KeyValues(ToYaml(now)), theirs = KeyValues(checkpoint_recipe);
  for (const auto& [key, value] : mine) theirs.try_emplace(key, "absent");
  std::vector<RecipeDifference> differences;
  for (const auto& [key, there] : theirs) {
    const std::string here = mine.try_emplace(key, "absent").first->second;
    if (here != there) differences.push_back({key, here, there});
  }
  return differences;
}

absl::Status CheckSameRun(const Recipe& now, const std::string& checkpoint_recipe,
                          const std::string& path, const std::vector<std::string>& allow) {
  std::string list;
  int count = 0;
  for (const auto& [key, here, there] : DiffRecipes(now, checkpoint_recipe)) {
    const bool fixed = DecidesTheSamples(key);
    if (MayChange(key) || IsOldMeaning(key, here, there) || (!fixed && IsOneOf(key, allow)))
      continue;
    list += fmt::format("\n  {}: {} in the checkpoint, {} in the recipe{}", key, there, here,
                        fixed ? "; cannot be allowed, it decides which samples are still to come "
                                "(a new run with init_from may have another)"
                              : "");
    ++count;
  }
  if (count == 0) return absl::OkStatus();
  return CheckpointError("{}: is of another run, {} key{} differ{} (--allow KEY accepts one):{}",
                         path, count, count == 1 ? "" : "s", count == 1 ? "s" : "", list);
}

}  // namespace lacuna
