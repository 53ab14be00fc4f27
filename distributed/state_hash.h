// The streaming form of StateHash, shared by a state in memory and a checkpoint on disk.
#pragma once

#include <xxhash.h>

#include <memory>
#include <string>

#include "core/dtype.h"
#include "core/shape.h"

namespace lacuna {

class StateHasher {
 public:
  StateHasher();
  void BeginTensor(const std::string& name, DType dtype, const Shape& shape);
  void Update(const void* data, int64_t bytes);
  uint64_t Digest() const;

 private:
  struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, FreeState> state_;
};

}  // namespace lacuna
