// A thread sums its words, a warp its threads, then one integer atomic a warp: exact in any order.
#include "core/content_hash.h"
#include "core/cuda/launch.cuh"

namespace lacuna::cuda {
namespace {

__device__ uint64_t WordAt(const uint8_t* data, int64_t at, int64_t bytes) {
  uint64_t word = 0;
  for (int i = 0; i < 8 && at + i < bytes; ++i) word |= uint64_t{data[at + i]} << (8 * i);
  return word;
}

// whole: words that can be read as such; tensors begin at multiples of 8 bytes or are read by byte.
__global__ void __launch_bounds__(kThreads)
    HashKernel(const uint8_t* data, int64_t bytes, int64_t whole, unsigned long long* sum) {
  const auto* words = reinterpret_cast<const uint64_t*>(data);
  uint64_t mine = 0;
  for (int64_t i = GlobalIndex(); i < (bytes + 7) / 8; i += GridSize())
    mine += MixWord(i < whole ? words[i] : WordAt(data, 8 * i, bytes), static_cast<uint64_t>(i));
  for (int step = 16; step > 0; step /= 2) mine += __shfl_xor_sync(0xFFFFFFFFu, mine, step);
  if (threadIdx.x % 32 == 0) atomicAdd(sum, static_cast<unsigned long long>(mine));
}

}  // namespace

void AddContentHash(const void* data, int64_t bytes, uint64_t* sum, Stream stream) {
  const bool aligned = reinterpret_cast<uintptr_t>(data) % 8 == 0;
  const int64_t words = (bytes + 7) / 8,
                blocks = std::min<int64_t>((words + kThreads - 1) / kThreads, 2048);
  LaunchGrid(HashKernel, dim3(static_cast<unsigned>(blocks)), kThreads, 0, stream,
             static_cast<const uint8_t*>(data), bytes, aligned ? bytes / 8 : 0,
             reinterpret_cast<unsigned long long*>(sum));
}

}  // namespace lacuna::cuda
