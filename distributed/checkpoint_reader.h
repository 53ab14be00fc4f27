// Finding, verifying and loading checkpoints written by CheckpointWriter, on any number of ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "distributed/checkpoint_manifest.h"
#include "distributed/communicator.h"
#include "distributed/training_state.h"

namespace lacuna {

struct CheckpointInfo {
  int64_t step = 0;
  std::string path;     // "<directory>/step_1200"
  absl::Status status;  // of the manifest; the fields below are set where it is OK
  int64_t serial = -1;
  int64_t bytes = 0;
  std::string created;
};

// All directories step_<N>, the last saved first (by serial); those without a good manifest come
// before, by step, so that a loader meets the reason for not taking them.
absl::StatusOr<std::vector<CheckpointInfo>> ListCheckpoints(const std::string& directory);

// One checkpoint, read in this process alone. Tensors are read without verifying; call Verify
// first.
class CheckpointReader {
 public:
  static absl::StatusOr<CheckpointReader> Open(const std::string& path);
  CheckpointReader(std::string path, Manifest manifest)
      : path_(std::move(path)), manifest_(std::move(manifest)) {}

  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }

  // Size and every block of files part, part + parts, ...; all of them by default. Each problem is
  // one line that names the file and the tensor: "runs/a/ckpt/step_1200/rank_3.h5: checksum
  // mismatch in model/layers.7.experts.up (block 118)".
  std::vector<std::string> Verify(int part = 0, int parts = 1) const;

  // Elements [begin, begin + count) of a tensor of the manifest into `data`, in its own dtype.
  absl::Status Read(size_t tensor, int64_t begin, int64_t count, void* data) const;
  // The whole tensor, in its shape.
  absl::StatusOr<Tensor> Read(size_t tensor) const;
  // The hash of one tensor and of all (distributed/state_hash.h), from their elements. An error where
  // the manifest says otherwise.
  absl::StatusOr<uint64_t> TensorHash(size_t tensor) const;
  absl::StatusOr<uint64_t> StateHash() const;

 private:
  void VerifyFile(const CheckpointFile& file, std::vector<std::string>* problems) const;

  std::string path_;
  Manifest manifest_;
};

// VerifyCheckpoint(".../step_1200"): OK, or the first problem.
absl::Status VerifyCheckpoint(const std::string& path);

struct LoadOptions {
  // this one or an error; otherwise the last saved one that is whole
  std::optional<int64_t> step = {};
  // Tensors of the checkpoint that `state` does not ask for are an error unless their names begin
  // with one of these (the optimizer's, where only the weights are wanted).
  std::vector<std::string> unused_groups = {};
  double deadline_seconds = 1800;
  // Rank 0 is told why a checkpoint was passed over, one line each.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

struct LoadedCheckpoint {
  int64_t step = 0;
  std::string path;
  std::string recipe;
  nlohmann::json layout;               // {"ranks": 4, "expert": 2, "zero": 2}
  std::optional<uint64_t> state_hash;  // of all tensors of the checkpoint; none in format 1
};

// Collective. Fills the tensors of `state` (name, global shape, offset and dtype say what is
// wanted) and its scalars from the last saved checkpoint whose every byte matches its checksum; a
// damaged one is named through `warn` and the one before is taken.
// What other ranks, other slices or another number of files wrote makes no difference. Errors (all
// ranks return the same): no checkpoint that is whole; another format version; tensors that differ
// from those asked for, one a line. After an error the contents of the tensors are not defined.
absl::StatusOr<LoadedCheckpoint> LoadCheckpoint(Communicator& comm, const std::string& directory,
                                                TrainingState& state, const LoadOptions& options);

}  // namespace lacuna
