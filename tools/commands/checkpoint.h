// What the actions of `lacuna ckpt` share.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "distributed/checkpoint_reader.h"

namespace lacuna::tools {

// The checkpoints meant by a path: of a run's folder, of a folder of checkpoints, or one checkpoint
// itself; the last saved first.
absl::StatusOr<std::vector<CheckpointInfo>> FindCheckpoints(std::string path,
                                                            std::optional<int64_t> step);

// lacuna ckpt diff: prints every tensor in which the last saved checkpoints of two places differ.
// An error where there is one.
absl::Status DiffCheckpoints(const std::string& a, const std::string& b);

}  // namespace lacuna::tools
