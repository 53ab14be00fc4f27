// Where a run stands, besides its tensors: the scalars of a checkpoint.
#pragma once

#include <cstdint>
#include <string>

namespace lacuna {

struct RunState {
  int64_t step = 0;     // optimizer steps done
  int64_t samples = 0;  // taken from the data stream: the cursor
  int64_t tokens = 0;   // targets trained on
  std::string data_fingerprint;
  uint64_t tokenizer_hash = 0;
  std::string hash;  // of all tensors, filled by a restore
};

}  // namespace lacuna
