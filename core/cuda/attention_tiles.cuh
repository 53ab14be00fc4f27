// What the attention kernels share: tiles of rows that restart at documents, and the gradients of a
// tile of keys.
//
// A row of a tile is a pair (token, head of the group), tokens first, so that all heads of a group
// meet a key tile together whatever their number. Where a document's tiles start is a closed form of
// its offset, an upper bound of the tiles before it: nobody counts tiles, and those that are too
// many find out that they have no rows.
#pragma once

#include <cmath>

#include "core/cuda/attention_sizes.cuh"
#include "core/cuda/memory.h"
#include "core/cuda/mma_tiles.cuh"
#include "core/cuda/reduce.cuh"

namespace lacuna::cuda {

inline constexpr int kTileRows = 64;  // rows of a tile that stays with its block
inline constexpr int kMaxHeadWidth = 256;
// Rows of the tiles that pass by: f32 takes twice the shared memory.
template <class T>
inline constexpr int kPassingRows = sizeof(T) == 2 ? 64 : 32;

// Up to kTileRows rows (token, head) of one document and group.
struct QueryTile {
  int document = 0, group = 0, rep = 1, heads = 0;
  int64_t first_token = 0;  // of row 0
  int first_head = 0;       // of row 0, within the group
  int rows = 0;             // 0: an empty slot

  __device__ QueryTile(const AttentionSizes& s, int64_t slot, int group_index)
      : group(group_index), rep(s.rep), heads(s.heads) {
    int64_t index = 0;
    document = OwnerOfSlot(s.cu_queries, s.documents, s.rep, kTileRows, slot, &index);
    const int64_t first_row = index * kTileRows,
                  all = (int64_t{s.cu_queries[document + 1]} - s.cu_queries[document]) * s.rep;
    rows = static_cast<int>(max(int64_t{0}, min(int64_t{kTileRows}, all - first_row)));
    first_token = s.cu_queries[document] + first_row / rep;
    first_head = static_cast<int>(first_row % rep);
  }
  __device__ int64_t token(int r) const { return first_token + (first_head + r) / rep; }
  // Of row r among the [N, H] rows of q.
  __device__ int64_t offset(int r) const {
    return token(r) * heads + group * rep + (first_head + r) % rep;
  }
};

// delta[row] = do . o, a warp a row.
template <class T>
__global__ void DeltaKernel(const T* d_o, const T* o, float* delta, int64_t rows, int width) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t r = GlobalIndex() / kWarp; r < rows; r += GridSize() / kWarp) {
    float sum = 0;
    for (int c = lane; c < width; c += kWarp)
      sum += Load(d_o[r * width + c]) * Load(o[r * width + c]);
    sum = WarpReduce(sum);
    if (lane == 0) delta[r] = sum;
  }
}

// do . o of a call's rows: given, or computed here.
template <class T>
class Delta {
 public:
  template <class Args>
  Delta(const Args& args, Stream stream)
      : rows_(args.lse.numel()), computed_(args.delta.defined() ? 0 : rows_ * 4, stream) {
    data_ = args.delta.defined() ? args.delta.template As<float>() : computed_.As<float>();
    if (!args.delta.defined())
      Launch(DeltaKernel<T>, rows_ * kWarp, stream, args.d_o.template As<T>(),
             args.o.template As<T>(), computed_.As<float>(), rows_,
             static_cast<int>(args.o.dim(2)));
  }
  const float* data() const { return data_; }

 private:
  int64_t rows_;
  Workspace computed_;
  const float* data_;
};

// Shared memory of KeyTileGradients.
template <class T>
struct KeyTileMemory {
  T *k, *v, *q, *d_o, *p, *ds;
  float *lse, *delta;
  int *begin, *end;

  __host__ __device__ static int64_t Bytes(int dk, int dv) {
    const int passing = kPassingRows<T>;
    return (int64_t{kTileRows + passing} * (TileStride<T>(dk) + TileStride<T>(dv)) +
            2 * kTileRows * TileStride<T>(passing)) *
               static_cast<int64_t>(sizeof(T)) +
           passing * 16;
  }
  __device__ KeyTileMemory(void* memory, int dk, int dv) {
    constexpr int kPassing = kPassingRows<T>;
    k = static_cast<T*>(memory);
    v = k + kTileRows * TileStride<T>(dk);
    q = v + kTileRows * TileStride<T>(dv);
    d_o = q + kPassing * TileStride<T>(dk);
    p = d_o + kPassing * TileStride<T>(dv);
    ds = p + kTileRows * TileStride<T>(kPassing);
    lse = reinterpret_cast<float*>(ds + kTileRows * TileStride<T>(kPassing));
    delta = lse + kPassing;
    begin = reinterpret_cast<int*>(delta + kPassing);
    end = begin + kPassing;
  }
};

// dk and dv of up to 64 keys, summed over query rows in their order: keys stay, rows pass by.
//
//   ds = p (do . v - delta),  dv = p^T do,  dk = scale ds^T q,  p = exp(scale q . k - lse)
//
// All products are formed transposed, keys as rows. Eight warps: warp w has keys 16 (w mod 4) ...,
// half w / 4 of the rows in P^T and dS^T [64 keys, passing rows], and half w / 4 of the columns in
// dK and dV, which stay in registers; P^T and dS^T go through shared memory in T.
//
// Rows: int64_t offset(i), row i's among [N, H]; and void visible(i, &begin, &end), the keys of the
// tile that it sees.
template <class T, int kMaxDk, int kMaxDv>
struct KeyTileGradients {
  static constexpr int kThreads = 256;
  static constexpr int kPassing = kPassingRows<T>;
  static constexpr int kScoreTiles = kPassing / 16;

  float dk[kMaxDk / 16][4], dv[kMaxDv / 16][4];

  // What passes by: rows [first, end).
  struct Inputs {
    const T *q, *d_o;
    const float *lse, *delta;
    bool packed_q, packed_v;
  };

  template <class Rows>
  __device__ void Run(const AttentionSizes& s, const KeyTileMemory<T>& m, const Inputs& in,
                      const Rows& rows, int64_t first, int64_t end) {
    Clear(dk);
    Clear(dv);
    const int warp = static_cast<int>(threadIdx.x) / kWarp, keys = warp % 4 * 16, half = warp / 4;
    const int dk_stride = TileStride<T>(s.dk), dv_stride = TileStride<T>(s.dv),
              dk_padded = PaddedWidth(s.dk), dv_padded = PaddedWidth(s.dv);
    constexpr int kStride = TileStride<T>(kPassing);
    const int row0 = half * kPassing / 2;
    for (int64_t begin = first; begin < end; begin += kPassing) {
      __syncthreads();
      LoadRows(s, m, in, rows, begin, end);
      __syncthreads();
      float p[kScoreTiles][4], ds[kScoreTiles][4];
      Clear(p);
      Clear(ds);
      WarpProduct<LayoutB::kColumns>(p, kScoreTiles, dk_padded, m.k + keys * dk_stride, dk_stride,
                                     m.q + row0 * dk_stride, dk_stride);
      WarpProduct<LayoutB::kColumns>(ds, kScoreTiles, dv_padded, m.v + keys * dv_stride, dv_stride,
                                     m.d_o + row0 * dv_stride, dv_stride);
#pragma unroll
      for (int i = 0; i < kScoreTiles; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int key = keys + FragmentRow() + e / 2 * 8,
                    row = row0 + 8 * i + FragmentColumn() + e % 2;
          const bool seen = key >= m.begin[row] && key < m.end[row];
          p[i][e] = seen ? exp2f(kLog2E * (s.scale * p[i][e] - m.lse[row])) : 0.0f;
          ds[i][e] = seen ? p[i][e] * (ds[i][e] - m.delta[row]) : 0.0f;
        }
        for (int e = 0; e < 4; e += 2) {
          const int at =
              (keys + FragmentRow() + e / 2 * 8) * kStride + row0 + 8 * i + FragmentColumn();
          StorePair(m.p + at, p[i][e], p[i][e + 1]);
          StorePair(m.ds + at, ds[i][e], ds[i][e + 1]);
        }
      }
      __syncthreads();
      WarpProduct<LayoutB::kRows>(dv, dv_padded / 16, kPassing, m.p + keys * kStride, kStride,
                                  m.d_o + half * dv_padded / 2, dv_stride);
      WarpProduct<LayoutB::kRows>(dk, dk_padded / 16, kPassing, m.ds + keys * kStride, kStride,
                                  m.q + half * dk_padded / 2, dk_stride);
    }
  }

  // store_dk(key, column, a, b), store_dv(...): two neighbouring columns of a key of the tile.
  template <class StoreDk, class StoreDv>
  __device__ void Emit(const AttentionSizes& s, StoreDk&& store_dk, StoreDv&& store_dv) const {
    EmitOne(dk, PaddedWidth(s.dk), s.scale, store_dk);
    EmitOne(dv, PaddedWidth(s.dv), 1.0f, store_dv);
  }

 private:
  template <class Rows>
  __device__ void LoadRows(const AttentionSizes& s, const KeyTileMemory<T>& m, const Inputs& in,
                           const Rows& rows, int64_t begin, int64_t end) {
    StartLoad(m.q, s.dk, kPassing, in.packed_q, [&](int r) {
      return begin + r < end ? in.q + rows.offset(begin + r) * s.dk : nullptr;
    });
    StartLoad(m.d_o, s.dv, kPassing, in.packed_v, [&](int r) {
      return begin + r < end ? in.d_o + rows.offset(begin + r) * s.dv : nullptr;
    });
    for (int r = static_cast<int>(threadIdx.x); r < kPassing; r += blockDim.x) {
      m.begin[r] = m.end[r] = 0;
      if (begin + r >= end) continue;
      rows.visible(begin + r, &m.begin[r], &m.end[r]);
      const int64_t offset = rows.offset(begin + r);
      m.lse[r] = in.lse[offset];
      m.delta[r] = in.delta[offset];
    }
    FinishLoads();
  }

  template <int kTiles, class StoreOne>
  __device__ static void EmitOne(const float (&sum)[kTiles][4], int padded, float factor,
                                 StoreOne&& store) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      if (i >= padded / 16) break;
      for (int e = 0; e < 4; e += 2) {
        store(warp % 4 * 16 + FragmentRow() + e / 2 * 8,
              warp / 4 * padded / 2 + 8 * i + FragmentColumn(), factor * sum[i][e],
              factor * sum[i][e + 1]);
      }
    }
  }
};

// Calls f with the smallest compiled (Dk, Dv) that hold the given ones.
template <class F>
void DispatchWidths(int64_t dk, int64_t dv, F&& f) {
  if (dk <= 64 && dv <= 64)
    return f(std::integral_constant<int, 64>{}, std::integral_constant<int, 64>{});
  if (dk <= 192 && dv <= 128)
    return f(std::integral_constant<int, 192>{}, std::integral_constant<int, 128>{});
  if (dk <= kMaxHeadWidth && dv <= kMaxHeadWidth)
    return f(std::integral_constant<int, kMaxHeadWidth>{},
             std::integral_constant<int, kMaxHeadWidth>{});
  Fail(__FILE__, __LINE__, "attention: heads are at most 256 wide", cudaErrorInvalidValue);
}

}  // namespace lacuna::cuda
