#include "distributed/state_hash.h"

#include "core/error.h"
#include "distributed/training_state.h"

namespace lacuna {

StateHasher::StateHasher() : state_(XXH3_createState()) {
  LACUNA_CHECK(state_ != nullptr, "out of memory");
  XXH3_64bits_reset(state_.get());
}

void StateHasher::BeginTensor(const std::string& name, DType dtype, const Shape& shape) {
  // The closing zero keeps one tensor's text from running into the next one's bytes.
  const std::string head = fmt::format("{} {} {}", name, NameOf(dtype), ToString(shape));
  Update(head.c_str(), static_cast<int64_t>(head.size()) + 1);
}

void StateHasher::Update(const void* data, int64_t bytes) {
  XXH3_64bits_update(state_.get(), data, static_cast<size_t>(bytes));
}

uint64_t StateHasher::Digest() const {
  return XXH3_64bits_digest(state_.get());
}

uint64_t StateHash(const TrainingState& state) {
  StateHasher hasher;
  for (const TensorSlice& slice : state.tensors) {
    LACUNA_CHECK(slice.tensor.numel() == NumElements(slice.global_shape),
                 "state hash: this rank has only a part of {}", slice.name);
    hasher.BeginTensor(slice.name, slice.tensor.dtype(), slice.global_shape);
    hasher.Update(slice.tensor.Ref().data, slice.tensor.bytes());
  }
  return hasher.Digest();
}

}  // namespace lacuna
