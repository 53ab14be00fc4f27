// MANIFEST.json of a checkpoint: what each file holds and the checksum that vouches for it. The
// manifest is written last, so a directory with a good one is complete; it carries a checksum of
// itself.
//
//   {"hash":"<XXH3-64 of the bytes between the two line breaks>","manifest":
//   { "format": "lacuna checkpoint", "version": 1, "step": 1200, ... }
//   }
//
// A checkpoint is a directory step_<N> of rank_<r>.h5 (one HDF5 file a rank, a dataset for each
// slice), rank_<r>.xxh3 (the XXH3-64 of every block of 4 MiB of that file, one a line) and
// MANIFEST.json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace lacuna {

// Of what this program writes. It reads all from the oldest on; others are refused, see
// ParseManifest.
//   2   each tensor has its hash (distributed/state_hash.h)
//   1   none has; nothing else differs
inline constexpr int64_t kCheckpointVersion = 2;
inline constexpr int64_t kOldestCheckpointVersion = 1;

struct CheckpointTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::optional<uint64_t> hash = {};  // from version 2 on
};

struct CheckpointSlice {
  int64_t tensor = 0;  // index into the manifest's tensors
  int64_t offset = 0;  // in elements of the global tensor
  int64_t count = 0;   // elements
  int64_t at = 0;      // byte of the file
};

struct CheckpointFile {
  std::string name;  // "rank_3.h5"
  int64_t bytes = 0;
  uint64_t hash = 0;  // BlockHashes::Root of the whole file
  std::vector<CheckpointSlice> slices;
};

struct Manifest {
  int64_t version = kCheckpointVersion;
  int64_t step = 0;
  // counts the saves of a directory: the newest is not the one of the highest step after a rewind
  int64_t serial = 0;
  std::string created;
  std::string recipe;  // text
  nlohmann::json layout;
  nlohmann::json scalars;
  std::vector<CheckpointTensor> tensors;
  std::vector<CheckpointFile> files;

  int64_t TotalBytes() const;  // of the tensors' files
  // Of all tensors; none in version 1.
  std::optional<uint64_t> StateHash() const;
};

std::string FormatManifest(const Manifest& manifest);
// `path` is for messages. A damaged manifest, or one of a format version that is not read ("format 3
// > supported 2"; IsOtherVersion), is an error with ExitCode::kCheckpoint. What it returns is
// consistent: slices lie in their files and cover every tensor exactly once.
absl::StatusOr<Manifest> ParseManifest(const std::string& path, std::string_view text);
// The checkpoint is whole, but another program's: not a reason to fall back to an older one.
bool IsOtherVersion(const absl::Status& status);

// Every tensor covered once, without holes: the first violation ("elements [0, 20) of model/a are held
// twice, by rank_0.h5 and rank_1.h5", "elements [30, 60) of model/a are missing"), or OK.
absl::Status CheckCoverage(const Manifest& manifest);

// "rank_3.h5" -> "rank_3.xxh3"
std::string HashFileOf(const std::string& file);
bool ParseDType(std::string_view name, DType* dtype);

}  // namespace lacuna
