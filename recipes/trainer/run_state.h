// Where a run stands, besides its tensors: the scalars of a checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace lacuna {

// What a run has had of one source.
struct SourceState {
  std::string fingerprint;  // of its shards' contents
  int64_t samples = 0;
  int64_t tokens = 0;  // without padding
};

struct RunState {
  int64_t step = 0;     // optimizer steps done
  int64_t samples = 0;  // taken from the data stream: the cursor
  int64_t tokens = 0;   // targets trained on
  int64_t updates = 0;  // of the weights; steps that were skipped are none
  uint64_t tokenizer_hash = 0;
  nlohmann::json mixture;  // MixtureJournal::ToJson of the stream so far
  // By name; sources that the mix no longer has stay.
  std::map<std::string, SourceState> sources;
  std::string hash;  // of all tensors, filled by a restore; not among the scalars
};

nlohmann::json ToScalars(const RunState& state);
// A checkpoint error, `path` in front, where one of them is missing or of another type.
absl::StatusOr<RunState> FromScalars(const nlohmann::json& scalars, const std::string& path);

}  // namespace lacuna
