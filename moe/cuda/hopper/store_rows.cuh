// From a warpgroup's sums to rows of bf16 in memory. The product stands transposed in the sums
// (features x rows): stmatrix turns it into a stage of the ring that the warpgroup borrows, as boxes
// of 64 features in rows of 128 bytes with the copy engine's swizzle. 16 rows at a time leave through
// the engine; a last group of fewer is stored by the threads, as the rows behind it are another
// expert's.
#pragma once

#include "core/cuda/swiglu.cuh"
#include "core/cuda/vector.cuh"
#include "moe/cuda/hopper/row_tiles.cuh"

namespace lacuna::cuda::hopper {

inline constexpr int kStoreRows = 16;  // of the boxes that are stored
inline constexpr int kRowsBoxBytes = kN * 128;

// The address of a 16-byte piece of a row in a box.
__device__ inline uint32_t PieceAt(uint32_t box, int row, int piece) {
  return box + row * 128 + ((piece ^ (row % 8)) << 4);
}
__device__ inline uint4 LoadShared16(uint32_t shared) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(shared)
               : "memory");
  return v;
}
__device__ inline void StoreGlobal16(BFloat16* to, const uint4& value) {
  StoreWord(reinterpret_cast<uint4*>(to), value);
}

// A warpgroup's threads have written `boxes` boxes of `rows` rows from `shared` on.
//   store(box, address, row)       16 rows from `row` on through the engine
//   to(box, row)                   where a row's 64 features go, and how many of them there are
template <class Store, class To>
__device__ void StoreBoxes(uint32_t shared, int boxes, int rows, Store&& store, To&& to) {
  const int thread = threadIdx.x % kWarpgroup, warp = thread / kWarp, whole = rows / kStoreRows;
  FenceAsyncProxy();
  SyncNamed(1 + static_cast<int>(threadIdx.x / kWarpgroup), kWarpgroup);
  if (thread % kWarp == 0) {
    for (int group = warp; group < whole; group += kWarpgroup / kWarp) {
      for (int box = 0; box < boxes; ++box)
        store(box, shared + box * kRowsBoxBytes + group * kStoreRows * 128, group * kStoreRows);
    }
  }
  __syncwarp();
  const int row = whole * kStoreRows + thread / 8, piece = thread % 8;
  if (row >= rows) return;
  for (int box = 0; box < boxes; ++box) {
    const auto [out, count] = to(box, row);
    if (piece * 8 < count)
      StoreGlobal16(out + piece * 8,
                    LoadShared16(PieceAt(shared + box * kRowsBoxBytes, row, piece)));
  }
}

struct RowPart {
  BFloat16* data;
  int count;
};

// y[row] = the products.   y: [R, features], packable
struct StoreProducts {
  static constexpr bool kInterleaved = false;
  static constexpr int kBorrowed = kConsumers;  // one a warpgroup
  struct Params {
    CUtensorMap y_map;
    BFloat16* y;
  };

  template <int kRows>
  static __device__ void Run(const Params& p, Sums<kRows>& sum, const Ring& ring, RingPlace& place,
                             const RowTile& tile, int features) {
    const int warpgroup = threadIdx.x / kWarpgroup, warp = threadIdx.x % kWarpgroup / kWarp,
              lane = threadIdx.x % kWarp;
#pragma unroll
    for (int w = 0; w < kConsumers; ++w, place.Next()) {
      if (w == warpgroup) {
        const uint32_t shared = ring.A(place.stage);
        WaitBarrier(ring.Full(place.stage), place.round);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
          for (int step = 0; step < kRows / 16; ++step) {
            const float* const s = sum[i] + 8 * step;
            StoreMatricesTransposed(
                PieceAt(shared + i * kRowsBoxBytes, step * 16 + lane / 16 * 8 + lane % 8,
                        warp * 2 + lane / 8 % 2),
                PackBFloat16(s[0], s[1]), PackBFloat16(s[2], s[3]), PackBFloat16(s[4], s[5]),
                PackBFloat16(s[6], s[7]));
          }
        }
        const int feature = tile.feature_tile * kM + warpgroup * (kM / 2);
        StoreBoxes(
            shared, 2, tile.rows,
            [&](int box, uint32_t from, int row) {
              StoreTile(p.y_map, from, feature + box * 64, static_cast<int>(tile.begin) + row);
            },
            [&](int box, int row) {
              const int f = feature + box * 64;
              return RowPart{p.y + (tile.begin + row) * features + f, features - f};
            });
      }
      CommitStores();
    }
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

// z[row] = the products [gate | up], h[row] = silu(gate) * up.   z: [R, 2F], h: [R, F],
// packable. The rows of A alternate, 8 of gates and the 8 of the same features' ups, so that a
// thread holds both.
struct StoreSwiGlu {
  static constexpr bool kInterleaved = true;
  static constexpr int kBorrowed = kConsumers;  // one a warpgroup: gate, up, h
  static_assert(3 * kRowsBoxBytes <= kStageBytes);
  struct Params {
    CUtensorMap z_map, h_map;  // z as [R, 2, F]
    BFloat16 *z, *h;
  };

  template <int kRows>
  static __device__ void Run(const Params& p, Sums<kRows>& sum, const Ring& ring, RingPlace& place,
                             const RowTile& tile, int features) {
    const int warpgroup = threadIdx.x / kWarpgroup, warp = threadIdx.x % kWarpgroup / kWarp,
              lane = threadIdx.x % kWarp;
#pragma unroll
    for (int w = 0; w < kConsumers; ++w, place.Next()) {
      if (w == warpgroup) {
        const uint32_t shared = ring.A(place.stage), odd = lane / 8 % 2,
                       z_box = shared + odd * kRowsBoxBytes, h_box = shared + 2 * kRowsBoxBytes;
        WaitBarrier(ring.Full(place.stage), place.round);
#pragma unroll
        for (int step = 0; step < kRows / 16; ++step) {
          const int row = step * 16 + lane / 16 * 8 + lane % 8;
          uint32_t h[4];
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const float* const s = sum[i] + 8 * step;
            const uint32_t gate0 = PackBFloat16(s[0], s[1]), up0 = PackBFloat16(s[2], s[3]),
                           gate1 = PackBFloat16(s[4], s[5]), up1 = PackBFloat16(s[6], s[7]);
            StoreMatricesTransposed(PieceAt(z_box, row, i * 4 + warp), gate0, up0, gate1, up1);
            h[i] = SwiGluOf(gate0, up0);
            h[2 + i] = SwiGluOf(gate1, up1);
          }
          StoreMatricesTransposed(PieceAt(h_box, row, odd * 4 + warp), h[0], h[1], h[2], h[3]);
        }
        const int width = features / 2,
                  feature = tile.feature_tile * (kM / 2) + warpgroup * (kM / 4);
        StoreBoxes(
            shared, 3, tile.rows,
            [&](int box, uint32_t from, int row) {
              const int r = static_cast<int>(tile.begin) + row;
              if (box == 2) {
                StoreTile(p.h_map, from, feature, r);
              } else {
                StoreTile(p.z_map, from, feature, box, r);
              }
            },
            [&](int box, int row) {
              const int64_t r = tile.begin + row;
              BFloat16* const to = box == 2 ? p.h + r * width : p.z + r * features + box * width;
              return RowPart{to + feature, width - feature};
            });
      }
      CommitStores();
    }
  }
};

}  // namespace lacuna::cuda::hopper
