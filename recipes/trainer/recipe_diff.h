// In which keys two recipes differ, and which of them a resumed run may change.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct RecipeDifference {
  std::string key;          // "model.yarn.factor"; the values of lists stand one after the other
  std::string here, there;  // values as text; "absent" where a recipe has no such key
};

// Keys of `now` and of a checkpoint's resolved recipe that have different values, in order.
std::vector<RecipeDifference> DiffRecipes(const Recipe& now, const std::string& checkpoint_recipe);

// OK where the two recipes describe the same run, but for keys that say where and how long it runs
// (run.dir, run.name, train.threads, parallel.expert, ...), the mix of the sources (which the journal
// follows) and those in `allow`; else a CheckpointError listing every key that differs, with both
// values. Keys that decide which samples are still to come can not be allowed: they would repeat
// and lose data; a stage of its own starts from a checkpoint with other ones (init_from). A key
// younger than the checkpoint counts as what was done before there was one.
absl::Status CheckSameRun(const Recipe& now, const std::string& checkpoint_recipe,
                          const std::string& path, const std::vector<std::string>& allow);

}  // namespace lacuna
