#include "distributed/state_hash.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/content_hash.h"
#include "core/error.h"
#include "core/parallel.h"
#include "distributed/checkpoint_writer.h"
#include "distributed/training_state.h"

namespace lacuna {
namespace {

template <class Bits>
uint64_t HashBits(uint64_t key, int64_t first, const char* data, int64_t count) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, data + i * static_cast<int64_t>(sizeof(Bits)), sizeof(Bits));
    sum += MixWord(key ^ bits, static_cast<uint64_t>(first + i + 1));
  }
  return sum;
}

uint64_t HashOfSize(int64_t size, uint64_t key, int64_t first, const char* data, int64_t count) {
  switch (size) {
    case 1:
      return HashBits<uint8_t>(key, first, data, count);
    case 2:
      return HashBits<uint16_t>(key, first, data, count);
    case 4:
      return HashBits<uint32_t>(key, first, data, count);
    default:
      return HashBits<uint64_t>(key, first, data, count);
  }
}

uint64_t HashOfPiece(const TensorSlice& slice, int64_t begin, int64_t count) {
  const DType dtype = slice.tensor.dtype();
  const uint64_t key = TensorKey(slice.name, dtype, slice.global_shape);
  const int64_t first = slice.offset + begin;
  // The key is of whoever holds the first element (PlanShare gives an empty tensor to one rank).
  const uint64_t head =
      first == 0 && (count > 0 || NumElements(slice.global_shape) == 0) ? HashOfKey(key) : 0;
  const char* data = static_cast<const char*>(slice.tensor.Ref().data) + begin * SizeOf(dtype);
  return head + HashElements(key, dtype, first, data, count);
}

}  // namespace

uint64_t TensorKey(const std::string& name, DType dtype, const Shape& shape) {
  const std::string text = fmt::format("{} {} {}", name, NameOf(dtype), ToString(shape));
  return XXH3_64bits(text.data(), text.size());
}

uint64_t HashOfKey(uint64_t key) {
  return MixWord(key, 0);
}

uint64_t HashElements(uint64_t key, DType dtype, int64_t first, const void* data, int64_t count) {
  constexpr int64_t kChunk = int64_t{1} << 16;
  const int64_t chunks = (count + kChunk - 1) / kChunk, size = SizeOf(dtype);
  std::vector<uint64_t> sums(static_cast<size_t>(chunks));
  ParallelFor(chunks, kChunk, [&](int64_t c) {
    const int64_t begin = c * kChunk;
    sums[static_cast<size_t>(c)] =
        HashOfSize(size, key, first + begin, static_cast<const char*>(data) + begin * size,
                   std::min(kChunk, count - begin));
  });
  uint64_t sum = 0;
  for (const uint64_t part : sums) sum += part;
  return sum;
}

uint64_t StateHash(const TrainingState& state) {
  uint64_t sum = 0;
  for (const TensorSlice& slice : state.tensors) {
    LACUNA_CHECK(slice.tensor.numel() == NumElements(slice.global_shape),
                 "state hash: this rank has only a part of {}", slice.name);
    sum += HashOfPiece(slice, 0, slice.tensor.numel());
  }
  return sum;
}

uint64_t StateHash(Communicator& comm, const TrainingState& state) {
  uint64_t sum = 0;
  for (const SharePiece& piece : PlanShare(state, comm.rank(), comm.size()))
    sum += HashOfPiece(state.tensors[piece.slice], piece.begin, piece.count);
  Tensor all = Tensor::FromVector(std::vector<int64_t>{static_cast<int64_t>(sum)}, {1});
  comm.AllReduceSum(all).Wait();
  return static_cast<uint64_t>(all.data<int64_t>()[0]);
}

}  // namespace lacuna
