// Rows to their experts and back.
//
// SortByExpert: a stable counting sort. The choices are cut into chunks of kChunk, a block each:
//   1. counts[e, chunk], in shared memory;
//   2. one block: sums over the chunks of each expert (a warp an expert), then over the experts;
//   3. each warp of a chunk takes a run of it. Its choices start at offsets[e] + the counts of
//      earlier chunks + those of earlier warps; 32 choices at a time, equal ones find each other by
//      __match_any_sync and rank themselves by lane.
//   Integer sums only, so the result does not depend on timing. Ids outside go to the nearest
//   expert.
//
// Rows are moved 16 bytes a thread. PermuteRows: a warp reads kHeld packs a lane of a token's row
// into registers and writes them K times. UnpermuteRows (blockDim.y rows a block) reads up to kGroup
// rows of a token at once, so that as many loads are under way.
#include "core/cuda/memory.h"
#include "core/cuda/reduce.cuh"
#include "core/cuda/vector.cuh"
#include "moe/expert_limit.h"
#include "moe/permute.h"

namespace lacuna::cuda {
namespace {

constexpr int kSortWarps = 8, kSortThreads = kSortWarps * kWarp, kRun = 128,
              kChunk = kSortWarps * kRun;
constexpr int kScanThreads = 1024;
constexpr int kGroup = 8;
constexpr int kPermuteWarps = 4;

// The choices of N tokens; -1 is no choice where `none` is set.
struct Choices {
  const int32_t* ids;
  int64_t count;
  int experts;
  bool none;

  __device__ int ExpertAt(int64_t i) const {
    const int id = ids[i];
    return none && id == -1 ? -1 : min(max(id, 0), experts - 1);
  }
};

__global__ void __launch_bounds__(kSortThreads)
    CountKernel(const Choices choices, int* counts, int chunks) {
  const int experts = choices.experts;
  extern __shared__ int count[];  // [E]
  for (int e = threadIdx.x; e < experts; e += kSortThreads) count[e] = 0;
  __syncthreads();
  const int64_t begin = int64_t{blockIdx.x} * kChunk, end = min(begin + kChunk, choices.count);
  for (int64_t i = begin + threadIdx.x; i < end; i += kSortThreads) {
    const int e = choices.ExpertAt(i);
    if (e >= 0) atomicAdd(&count[e], 1);
  }
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += kSortThreads)
    counts[int64_t{e} * chunks + blockIdx.x] = count[e];
}

// Inclusive sum over the lanes up to this one.
__device__ int WarpScan(int value) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int other = __shfl_up_sync(0xFFFFFFFFu, value, offset);
    if (lane >= offset) value += other;
  }
  return value;
}

// counts[e, chunk] become those of e in the chunks before.
__global__ void __launch_bounds__(kScanThreads)
    ScanKernel(int* counts, int chunks, int experts, int64_t* offsets) {
  __shared__ int totals[kMaxExperts];
  __shared__ int sums[kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int e = warp; e < experts; e += kScanThreads / kWarp) {
    int* const of_expert = counts + int64_t{e} * chunks;
    int before = 0;
    for (int first = 0; first < chunks; first += kWarp) {
      const int chunk = first + lane, mine = chunk < chunks ? of_expert[chunk] : 0,
                sum = WarpScan(mine);
      if (chunk < chunks) of_expert[chunk] = before + sum - mine;
      before += __shfl_sync(0xFFFFFFFFu, sum, kWarp - 1);
    }
    if (lane == 0) totals[e] = before;
  }
  __syncthreads();
  const int e = threadIdx.x, sum = WarpScan(e < experts ? totals[e] : 0);
  if (lane == kWarp - 1) sums[warp] = sum;
  __syncthreads();
  int64_t end = sum;
  for (int w = 0; w < warp; ++w) end += sums[w];
  if (e < experts) offsets[e + 1] = end;
  if (e == 0) offsets[0] = 0;
}

__global__ void __launch_bounds__(kSortThreads)
    PlaceKernel(const Choices choices, const int* counts, int chunks, const int64_t* offsets,
                int32_t* position) {
  const int experts = choices.experts;
  extern __shared__ int next[];  // [kSortWarps, E]: counts of the warps, then their next places
  for (int i = threadIdx.x; i < kSortWarps * experts; i += kSortThreads) next[i] = 0;
  __syncthreads();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int* const mine = next + warp * experts;
  const int64_t begin = min(int64_t{blockIdx.x} * kChunk + warp * kRun, choices.count),
                end = min(begin + kRun, choices.count);
  for (int64_t i = begin + lane; i < end; i += kWarp) {
    const int e = choices.ExpertAt(i);
    if (e >= 0) atomicAdd(&mine[e], 1);
  }
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += kSortThreads) {
    int place = static_cast<int>(offsets[e]) + counts[int64_t{e} * chunks + blockIdx.x];
    for (int w = 0; w < kSortWarps; ++w) {
      const int count = next[w * experts + e];
      next[w * experts + e] = place;
      place += count;
    }
  }
  __syncthreads();
  for (int64_t first = begin; first < end; first += kWarp) {
    const int64_t i = first + lane;
    const int e = i < end ? choices.ExpertAt(i) : -1;
    const unsigned equal = __match_any_sync(0xFFFFFFFFu, e);
    const int rank = __popc(equal & ((1u << lane) - 1));
    int place = 0;
    if (e >= 0) place = mine[e];
    __syncwarp();
    if (i < end) position[i] = e >= 0 ? place + rank : -1;
    if (e >= 0 && rank == 0) mine[e] = place + __popc(equal);
    __syncwarp();
  }
}

// kHeld of narrow rows and of others.
constexpr int kNarrow = 4, kWide = 10;

template <class T, int kPack, int kHeld>
__global__ void __launch_bounds__(kPermuteWarps* kWarp)
    PermuteKernel(const T* __restrict__ x, const int32_t* __restrict__ position, T* __restrict__ y,
                  int64_t tokens, int choices, int64_t columns) {
  const int64_t n = int64_t{blockIdx.x} * kPermuteWarps + threadIdx.x / kWarp;
  if (n >= tokens) return;
  const int lane = threadIdx.x % kWarp;
  for (int64_t first = lane * kPack; first < columns; first += int64_t{kHeld} * kWarp * kPack) {
    Pack<T, kPack> held[kHeld];
#pragma unroll
    for (int p = 0; p < kHeld; ++p) {
      const int64_t c = first + p * kWarp * kPack;
      if (c < columns) held[p] = LoadPack<kPack>(x + n * columns + c);
    }
    for (int k = 0; k < choices; ++k) {
      const int32_t row = position[n * choices + k];
      if (row < 0) continue;
      T* const to = y + row * columns;
#pragma unroll
      for (int p = 0; p < kHeld; ++p) {
        const int64_t c = first + p * kWarp * kPack;
        if (c < columns) StorePack(to + c, held[p]);
      }
    }
  }
}

template <class T, int kPack>
__global__ void UnpermuteKernel(const T* __restrict__ x, const int32_t* __restrict__ position,
                                const float* __restrict__ w, T* y, int64_t tokens, int choices,
                                int64_t columns) {
  const int64_t n = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (n >= tokens) return;
  position += n * choices;
  if (w != nullptr) w += n * choices;
  for (int64_t c = threadIdx.x * kPack; c < columns; c += blockDim.x * kPack) {
    Floats<kPack> sum{};
    for (int first = 0; first < choices; first += kGroup) {
      Pack<T, kPack> in[kGroup];
      int32_t row[kGroup];
#pragma unroll
      for (int k = 0; k < kGroup; ++k) {
        row[k] = first + k < choices ? position[first + k] : -1;
        if (row[k] >= 0) in[k] = LoadPack<kPack>(x + row[k] * columns + c);
      }
#pragma unroll
      for (int k = 0; k < kGroup; ++k) {
        if (row[k] < 0) continue;
        const float factor = w == nullptr ? 1.0f : w[first + k];
        const auto values = Widen(in[k]);
#pragma unroll
        for (int j = 0; j < kPack; ++j) sum.value[j] = fmaf(factor, values.value[j], sum.value[j]);
      }
    }
    StoreFloats(y + n * columns + c, sum);
  }
}

// Blocks of about 256 threads for rows of `packs` packs: whole tokens where rows are short.
struct RowGrid {
  RowGrid(int64_t tokens, int64_t packs) {
    const int64_t passes = std::max<int64_t>(1, (packs + kThreads - 1) / kThreads);
    block.x = static_cast<unsigned>(std::max<int64_t>(1, (packs + passes - 1) / passes));
    block.y = kThreads / block.x;
    grid.x = static_cast<unsigned>((tokens + block.y - 1) / block.y);
  }
  dim3 grid, block;
};

// f(pack): kVector<T> elements at once where rows can be read so, else one.
template <class T, class F>
void WithPack(bool packable, F&& f) {
  if (packable) {
    f(std::integral_constant<int, kVector<T>>{});
  } else {
    f(std::integral_constant<int, 1>{});
  }
}

}  // namespace

void SortByExpert(const SortByExpertArgs& args, Stream stream) {
  const int64_t choices = args.ids.numel();
  const int experts = static_cast<int>(args.offsets.dim(0) - 1),
            chunks = static_cast<int>((choices + kChunk - 1) / kChunk);
  const Workspace workspace(int64_t{experts} * chunks * 4, stream);
  int* const counts = workspace.As<int>();
  const dim3 grid(static_cast<unsigned>(chunks));
  const Choices of = {args.ids.As<int32_t>(), choices, experts, args.may_be_none};
  LaunchGrid(CountKernel, grid, kSortThreads, experts * 4, stream, of, counts, chunks);
  LaunchGrid(ScanKernel, 1, kScanThreads, 0, stream, counts, chunks, experts,
             args.offsets.As<int64_t>());
  LaunchGrid(PlaceKernel, grid, kSortThreads, int64_t{kSortWarps} * experts * 4, stream, of, counts,
             chunks, args.offsets.As<int64_t>(), args.position.As<int32_t>());
}

void PermuteRows(const PermuteRowsArgs& args, Stream stream) {
  const int64_t tokens = args.x.dim(0), columns = args.x.dim(1);
  const int choices = static_cast<int>(args.position.dim(1));
  if (columns == 0) return;
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    WithPack<T>(Packable<T>(args.x.data, columns) && IsAligned(args.y.data), [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      const dim3 grid(static_cast<unsigned>((tokens + kPermuteWarps - 1) / kPermuteWarps));
      const auto launch = [&](auto kernel) {
        LaunchGrid(kernel, grid, kPermuteWarps * kWarp, 0, stream, args.x.As<const T>(),
                   args.position.As<const int32_t>(), args.y.As<T>(), tokens, choices, columns);
      };
      columns <= kNarrow* kWarp* kPack ? launch(PermuteKernel<T, kPack, kNarrow>)
                                       : launch(PermuteKernel<T, kPack, kWide>);
    });
  });
}

void UnpermuteRows(const UnpermuteRowsArgs& args, Stream stream) {
  const int64_t tokens = args.y.dim(0), columns = args.y.dim(1);
  const int choices = static_cast<int>(args.position.dim(1));
  if (columns == 0) return;
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    WithPack<T>(Packable<T>(args.x.data, columns) && IsAligned(args.y.data), [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      const RowGrid rows(tokens, columns / kPack);
      LaunchGrid(UnpermuteKernel<T, kPack>, rows.grid, rows.block, 0, stream, args.x.As<T>(),
                 args.position.As<int32_t>(), args.w.As<float>(), args.y.As<T>(), tokens, choices,
                 columns);
    });
  });
}

}  // namespace lacuna::cuda
