// From a warpgroup's sums to rows of bf16 in memory, a few rows a step.
//
// The product stands transposed in the sums (features x rows). A step's stmatrix turns it into a
// staging buffer, from which threads store 16 bytes each, a row's pieces side by side. Two buffers a
// warpgroup take turns, so that one barrier a step is enough.
#pragma once

#include <utility>

#include "core/cuda/swiglu.cuh"
#include "core/cuda/vector.cuh"
#include "moe/cuda/hopper/row_tiles.cuh"

namespace lacuna::cuda::hopper {

// 16 rows of a warp's 16 features in a thread: features g and g + 8, of the first 8 rows (2t, 2t + 1)
// and of the other 8.
using Pairs = uint32_t[4];

// A tile's products as bf16, until they are stored.
template <class Epilogue>
struct HeldRows {
  Pairs pairs[kN / 16];
  RowTile tile;
  int steps = 0, next = 0;

  template <int kColumns>
  __device__ __forceinline__ void Take(const Sums<RowsTile, kColumns>& sum, const RowTile& of) {
#pragma unroll
    for (int i = 0; i < kColumns / 16; ++i) {
#pragma unroll
      for (int r = 0; r < 4; ++r)
        pairs[i][r] = PackBFloat16(sum[0][8 * i + 2 * r], sum[0][8 * i + 2 * r + 1]);
    }
    if constexpr (kColumns % Epilogue::kRows != 0) {
#pragma unroll
      for (int r = 0; r < 4; ++r) pairs[kColumns / 16][r] = 0;
    }
    tile = of;
    steps = (kColumns + Epilogue::kRows - 1) / Epilogue::kRows;
    next = -Epilogue::kFetches;
  }
};

// The staging buffers of a warpgroup: kRows rows of kPieces 16-byte pieces; an odd number in all keeps
// neighbouring rows in other banks.
template <int kRows, int kPieces>
struct Staging {
  static constexpr int kPitch = (kPieces + 1) * 16, kBufferBytes = kRows * kPitch,
                       kBytes = 2 * kBufferBytes;
  static_assert(kPieces % 2 == 0);

  uint32_t base;
  uint32_t turn = 0;

  __device__ uint32_t At(int row, int piece) const {
    return base + turn * kBufferBytes + row * kPitch + piece * 16;
  }
  // What this lane tells stmatrix of 16 rows from `row` on: lanes 0 to 15 the first 8, 16 to 31 the
  // others; even groups of 8 lanes one piece, odd ones another.
  __device__ uint32_t MatrixAt(int row, int even_piece, int odd_piece) const {
    const int lane = threadIdx.x % kWarp;
    return At(row + lane / 16 * 8 + lane % 8, lane / 8 % 2 == 0 ? even_piece : odd_piece);
  }
  __device__ static void Sync() {
    SyncNamed(1 + static_cast<int>(threadIdx.x / kWarpgroup), kWarpgroup);
  }
};

__device__ inline void StoreGlobal16(BFloat16* to, uint32_t shared) {
  StoreWord(reinterpret_cast<uint4*>(to), LoadShared16(shared));
}

// y[row] = the products.   y: [R, features], packable
struct StoreProducts {
  static constexpr bool kInterleaved = false;
  static constexpr int kFetches = 0;
  static constexpr int kRows = 32;    // a step
  using Buffers = Staging<kRows, 8>;  // 64 features of a warpgroup
  struct Params {
    BFloat16* y;
  };

  static __device__ __forceinline__ void Step(const Params& p, const Pairs (&pairs)[kRows / 16],
                                              int step, const RowTile& tile, Buffers& staging,
                                              int features) {
    const int warpgroup = threadIdx.x / kWarpgroup, thread = threadIdx.x % kWarpgroup,
              at = thread / kWarp * 2, piece = thread % 8,
              feature = tile.feature_tile * kM + warpgroup * (kM / 2) + piece * 8;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      StoreMatricesTransposed(staging.MatrixAt(16 * i, at, at + 1), pairs[i][0], pairs[i][1],
                              pairs[i][2], pairs[i][3]);
    }
    staging.Sync();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int in_step = thread / 8 + 16 * i, row = step * kRows + in_step;
      if (row < tile.rows && feature < features)
        StoreGlobal16(p.y + int64_t{tile.begin + row} * features + feature,
                      staging.At(in_step, piece));
    }
    staging.turn ^= 1;
  }
};

// The two halves of a register as floats.
__device__ inline float LowOf(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ inline float HighOf(uint32_t pair) {
  return __uint_as_float(pair & 0xFFFF0000u);
}
// SwiGLU of pre-activations as they are stored: rounded to bf16.
__device__ inline uint32_t SwiGluOf(uint32_t gate, uint32_t up) {
  return PackBFloat16(Silu(LowOf(gate)) * LowOf(up), Silu(HighOf(gate)) * HighOf(up));
}

// z[row] = the products [gate | up], h[row] = silu(gate) * up.   z: [R, 2F], h: [R, F], packable.
// The rows of A alternate, 8 of gates and the 8 of the same features' ups, so that a thread holds
// both.
struct StoreSwiGlu {
  static constexpr bool kInterleaved = true;
  static constexpr int kFetches = 0;
  static constexpr int kRows = 32;     // a step
  using Buffers = Staging<kRows, 12>;  // 32 features of a warpgroup: gate, up, h
  struct Params {
    BFloat16 *z, *h;
  };

  static __device__ __forceinline__ void Step(const Params& p, const Pairs (&pairs)[kRows / 16],
                                              int step, const RowTile& tile, Buffers& staging,
                                              int features) {
    const int warpgroup = threadIdx.x / kWarpgroup, thread = threadIdx.x % kWarpgroup,
              warp = thread / kWarp, lane = thread % kWarp, piece = thread % 4,
              in_step = thread / 4;
    uint32_t h[4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      StoreMatricesTransposed(staging.MatrixAt(16 * i, warp, 4 + warp), pairs[i][0], pairs[i][1],
                              pairs[i][2], pairs[i][3]);
      h[2 * i] = SwiGluOf(pairs[i][0], pairs[i][1]);
      h[2 * i + 1] = SwiGluOf(pairs[i][2], pairs[i][3]);
    }
    StoreMatricesTransposed(staging.At(lane, 8 + warp), h[0], h[1], h[2], h[3]);
    staging.Sync();
    const int width = features / 2, row = step * kRows + in_step,
              feature = tile.feature_tile * (kM / 2) + warpgroup * (kM / 4) + piece * 8;
    if (row < tile.rows && feature < width) {
      const int64_t r = tile.begin + row;
      BFloat16* const z = p.z + r * features + feature;
      StoreGlobal16(z, staging.At(in_step, piece));
      StoreGlobal16(z + width, staging.At(in_step, 4 + piece));
      StoreGlobal16(p.h + r * width + feature, staging.At(in_step, 8 + piece));
    }
    staging.turn ^= 1;
  }
};

// The next step of what is held, if there is one. An epilogue may fetch what a step needs, kFetches
// steps ahead.
template <class Epilogue>
__device__ __forceinline__ void StoreNext(const typename Epilogue::Params& p,
                                          HeldRows<Epilogue>& held,
                                          typename Epilogue::Buffers& staging, int features) {
  if (held.next >= held.steps) return;
  // Registers have no addresses: each step has code that takes its own. What is done with them has
  // code once: steps that each had theirs would be fetched anew, tile after tile.
  constexpr int kPairs = Epilogue::kRows / 16;
  Pairs pairs[kPairs];
  const auto take = [&](const Pairs* from) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
#pragma unroll
      for (int r = 0; r < 4; ++r) pairs[i][r] = from[i][r];
    }
  };
  [&]<int... kStep>(std::integer_sequence<int, kStep...>) {
    ((held.next == kStep ? take(held.pairs + kStep * kPairs) : void()), ...);
  }
  (std::make_integer_sequence<int, kN / Epilogue::kRows>{});
  if (Epilogue::kFetches == 0 || held.next >= 0)
    Epilogue::Step(p, pairs, held.next, held.tile, staging, features);
  if constexpr (Epilogue::kFetches > 0)
    Epilogue::Fetch(p, held.next + Epilogue::kFetches, held.tile, staging, features);
  ++held.next;
}

}  // namespace lacuna::cuda::hopper
