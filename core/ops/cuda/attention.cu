// Tiled attention over ranges. A tile of 64 query rows (token, head of the group) stays with four
// warps, 16 rows each; key tiles pass by (64 in bf16, 32 in f32).
//
//   forward   S = Q K^T (registers), online softmax, P to shared memory, O += P V (registers).
//             K of the next tile is on its way during P V, V during Q K^T.
//   backward  dQ by query tiles: S and dP = dO V^T once more, dS to shared memory, dQ += dS K.
//             dK, dV by key tiles (KeyTileGradients): the rows whose ranges touch a tile are found
//             by bisection, for both ends of the ranges do not decrease within a document.
//             Documents with far more queries than keys (the compressed branch) would leave most of
//             the card idle: there the rows of a key tile are cut in up to kMaxParts parts, whose
//             f32 sums are then added in order. The number of parts follows from the document's own
//             lengths, so a packed document is cut as it is alone.
//
// Shared memory, T each: forward Q K V P, dQ Q dO K V dS; rows padded as in core/cuda/mma_tiles.cuh.
#include "core/cuda/attention_parts.cuh"
#include "core/cuda/attention_tiles.cuh"
#include "core/cuda/memory.h"
#include "core/ops/attention.h"
#include "core/ops/cuda/attention_cudnn.h"
#include "core/ops/cuda/hopper/attention.h"

namespace lacuna::cuda {
namespace {

constexpr int kQueryThreads = 128;
// Tokens of a call from which on our deterministic backward is no slower than cuDNN's (on an H100).
constexpr int64_t kRowsOfOurs = 4096;

// The passing key tiles of a query tile: rows [begin, end) of k, from a tile's start.
struct KeySpan {
  int64_t begin = 0, end = 0;

  __device__ KeySpan(const AttentionSizes& s, const int32_t* ranges, const QueryTile& tile,
                     int step) {
    const int64_t key0 = s.cu_keys[tile.document];
    const int64_t from = ranges[2 * tile.token(0)], to = ranges[2 * tile.token(tile.rows - 1) + 1];
    begin = key0 + (from - key0) / step * step;
    end = from < to ? to : begin;
  }
};

// The ranges of the two rows of a thread's fragments.
struct RowRanges {
  int32_t begin[2] = {0, 0}, end[2] = {0, 0};

  __device__ RowRanges(const int32_t* ranges, const QueryTile& tile, int row) {
    for (int i = 0; i < 2; ++i) {
      if (row + 8 * i >= tile.rows) continue;
      const int64_t n = tile.token(row + 8 * i);
      begin[i] = ranges[2 * n];
      end[i] = ranges[2 * n + 1];
    }
  }
  __device__ bool sees(int i, int64_t key) const { return key >= begin[i] && key < end[i]; }
};

template <class T>
struct Pointers {
  const T *q, *k, *v, *d_o;
  const int32_t* ranges;
  bool packed_k, packed_v;  // rows of Dk (q, k) and Dv (v, o) elements in whole packs
};

template <class T>
__device__ void StartKeys(T* tile, const T* x, const AttentionSizes& s, int width, bool packed,
                          int group, int64_t key, int64_t end) {
  StartLoad(tile, width, kPassingRows<T>, packed, [&](int r) {
    return key + r < end ? x + ((key + r) * s.groups + group) * width : nullptr;
  });
}
template <class T>
__device__ void StartRows(T* tile_memory, const T* x, const QueryTile& tile, int width,
                          bool packed) {
  StartLoad(tile_memory, width, kTileRows, packed,
            [&](int r) { return r < tile.rows ? x + tile.offset(r) * width : nullptr; });
}

// Scores in units of log 2 -> exp(score - running maximum), in place; the factor by which what was
// summed before shrinks goes to `shrink`.
template <int kTiles>
__device__ void OnlineSoftmax(float (&s)[kTiles][4], const RowRanges& rows, int64_t key,
                              float scale, float (&top)[2], float (&sum)[2], float (&shrink)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float largest = -INFINITY;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = s[t][2 * i + e];
        x = rows.sees(i, key + 8 * t + FragmentColumn() + e) ? x * scale : -INFINITY;
        largest = fmaxf(largest, x);
      }
    }
    largest = fmaxf(top[i], QuadMax(largest));
    const float finite = largest == -INFINITY ? 0.0f : largest;
    shrink[i] = exp2f(top[i] - finite);
    top[i] = largest;
    sum[i] *= shrink[i];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = s[t][2 * i + e];
        x = exp2f(x - finite);
        sum[i] += x;
      }
    }
  }
}

template <class T, int kMaxDv>
__global__ void __launch_bounds__(kQueryThreads)
    ForwardKernel(AttentionSizes s, Pointers<T> in, T* o_out, float* lse) {
  extern __shared__ __align__(16) unsigned char memory[];
  constexpr int kKeys = kPassingRows<T>, kStride = TileStride<T>(kKeys);
  // The last tiles of a causal document are the long ones: they start first.
  const QueryTile tile(s, gridDim.x - 1 - blockIdx.x, static_cast<int>(blockIdx.y));
  if (tile.rows == 0) return;
  const int dk_stride = TileStride<T>(s.dk), dv_stride = TileStride<T>(s.dv);
  T* const q = reinterpret_cast<T*>(memory);
  T* const k = q + kTileRows * dk_stride;
  T* const v = k + kKeys * dk_stride;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16, row = warp_row + FragmentRow();
  T* const p = v + kKeys * dv_stride + warp_row * kStride;

  const KeySpan span(s, in.ranges, tile, kKeys);
  const RowRanges ranges(in.ranges, tile, row);
  const int64_t document_end = s.cu_keys[tile.document + 1];
  float o[kMaxDv / 8][4], top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  Clear(o);
  StartRows(q, in.q, tile, s.dk, in.packed_k);
  StartKeys(k, in.k, s, s.dk, in.packed_k, tile.group, span.begin, min(span.end, document_end));
  for (int64_t key = span.begin; key < span.end; key += kKeys) {
    FinishLoads();
    __syncthreads();
    StartKeys(v, in.v, s, s.dv, in.packed_v, tile.group, key, document_end);
    float scores[kKeys / 8][4], shrink[2];
    Clear(scores);
    WarpProduct<LayoutB::kColumns>(scores, kKeys / 8, PaddedWidth(s.dk), q + warp_row * dk_stride,
                                   dk_stride, k, dk_stride);
    OnlineSoftmax(scores, ranges, key, s.scale * kLog2E, top, sum, shrink);
#pragma unroll
    for (int t = 0; t < kKeys / 8; ++t) {
      T* const at = p + FragmentRow() * kStride + 8 * t + FragmentColumn();
      StorePair(at, scores[t][0], scores[t][1]);
      StorePair(at + 8 * kStride, scores[t][2], scores[t][3]);
    }
#pragma unroll
    for (int t = 0; t < kMaxDv / 8; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) o[t][e] *= shrink[e / 2];
    }
    FinishLoads();
    __syncthreads();
    if (key + kKeys < span.end)
      StartKeys(k, in.k, s, s.dk, in.packed_k, tile.group, key + kKeys, document_end);
    WarpProduct<LayoutB::kRows>(o, PaddedWidth(s.dv) / 8, kKeys, p, kStride, v, dv_stride);
  }
  FinishLoads();  // of a tile without keys
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float total = QuadSum(sum[i]), inverse = total == 0 ? 0.0f : 1.0f / total;
    if (row + 8 * i >= tile.rows) continue;
    const int64_t offset = tile.offset(row + 8 * i);
#pragma unroll
    for (int t = 0; t < kMaxDv / 8; ++t) {
      StoreColumns(o_out + offset * s.dv, 8 * t + FragmentColumn(), s.dv, o[t][2 * i] * inverse,
                   o[t][2 * i + 1] * inverse);
    }
    if (FragmentColumn() == 0) lse[offset] = total == 0 ? -INFINITY : top[i] * kLn2 + logf(total);
  }
}

template <class T, int kMaxDk>
__global__ void __launch_bounds__(kQueryThreads)
    QueryGradientKernel(AttentionSizes s, Pointers<T> in, const float* lse_in,
                        const float* delta_in, bool add, T* dq_out) {
  extern __shared__ __align__(16) unsigned char memory[];
  constexpr int kKeys = kPassingRows<T>, kStride = TileStride<T>(kKeys);
  const QueryTile tile(s, gridDim.x - 1 - blockIdx.x, static_cast<int>(blockIdx.y));
  if (tile.rows == 0) return;
  const int dk_stride = TileStride<T>(s.dk), dv_stride = TileStride<T>(s.dv);
  T* const q = reinterpret_cast<T*>(memory);
  T* const d_o = q + kTileRows * dk_stride;
  T* const k = d_o + kTileRows * dv_stride;
  T* const v = k + kKeys * dk_stride;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16, row = warp_row + FragmentRow();
  T* const ds = v + kKeys * dv_stride + warp_row * kStride;

  const KeySpan span(s, in.ranges, tile, kKeys);
  const RowRanges ranges(in.ranges, tile, row);
  const int64_t document_end = s.cu_keys[tile.document + 1];
  float lse[2] = {0, 0}, delta[2] = {0, 0};
  for (int i = 0; i < 2; ++i) {
    if (row + 8 * i >= tile.rows) continue;
    lse[i] = lse_in[tile.offset(row + 8 * i)];
    delta[i] = delta_in[tile.offset(row + 8 * i)];
  }
  float dq[kMaxDk / 8][4];
  Clear(dq);
  StartRows(q, in.q, tile, s.dk, in.packed_k);
  StartRows(d_o, in.d_o, tile, s.dv, in.packed_v);
  for (int64_t key = span.begin; key < span.end; key += kKeys) {
    __syncthreads();
    StartKeys(k, in.k, s, s.dk, in.packed_k, tile.group, key, document_end);
    StartKeys(v, in.v, s, s.dv, in.packed_v, tile.group, key, document_end);
    FinishLoads();
    __syncthreads();
    float p[kKeys / 8][4], dp[kKeys / 8][4];
    Clear(p);
    Clear(dp);
    WarpProduct<LayoutB::kColumns>(p, kKeys / 8, PaddedWidth(s.dk), q + warp_row * dk_stride,
                                   dk_stride, k, dk_stride);
    WarpProduct<LayoutB::kColumns>(dp, kKeys / 8, PaddedWidth(s.dv), d_o + warp_row * dv_stride,
                                   dv_stride, v, dv_stride);
#pragma unroll
    for (int t = 0; t < kKeys / 8; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int i = e / 2;
        const bool seen = ranges.sees(i, key + 8 * t + FragmentColumn() + e % 2);
        const float probability = exp2f(kLog2E * (s.scale * p[t][e] - lse[i]));
        dp[t][e] = seen ? probability * (dp[t][e] - delta[i]) : 0.0f;
      }
      T* const at = ds + FragmentRow() * kStride + 8 * t + FragmentColumn();
      StorePair(at, dp[t][0], dp[t][1]);
      StorePair(at + 8 * kStride, dp[t][2], dp[t][3]);
    }
    __syncwarp();
    WarpProduct<LayoutB::kRows>(dq, PaddedWidth(s.dk) / 8, kKeys, ds, kStride, k, dk_stride);
  }
  FinishLoads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (row + 8 * i >= tile.rows) continue;
    T* const out = dq_out + tile.offset(row + 8 * i) * s.dk;
#pragma unroll
    for (int t = 0; t < kMaxDk / 8; ++t) {
      PutColumns(add, out, 8 * t + FragmentColumn(), s.dk, s.scale * dq[t][2 * i],
                 s.scale * dq[t][2 * i + 1]);
    }
  }
}

// The rows of a document as KeyTileGradients takes them.
struct RangeRows {
  const int32_t* ranges;
  int64_t first_token, key;
  int heads;
  uint32_t rep;
  int first_head;

  // A document has fewer than 2^32 rows (AttentionBwd): division in 32 bits is much cheaper.
  __device__ int64_t token(int64_t i) const { return first_token + static_cast<uint32_t>(i) / rep; }
  __device__ int64_t offset(int64_t i) const {
    return token(i) * heads + first_head + static_cast<uint32_t>(i) % rep;
  }
  __device__ void visible(int64_t i, int* begin, int* end) const {
    const int64_t n = token(i);
    *begin = static_cast<int>(max(int64_t{0}, ranges[2 * n] - key));
    *end = static_cast<int>(min(int64_t{kTileRows}, ranges[2 * n + 1] - key));
  }
};

// One key tile of one document and group, one part of its rows. `partial`: [rows, G, Dk + Dv], or
// null where dk and dv are written directly.
template <class T, int kMaxDk, int kMaxDv>
__global__ void __launch_bounds__(256)
    KeyGradientKernel(AttentionSizes s, Pointers<T> in, const float* lse, const float* delta, T* dk,
                      T* dv, float* partial) {
  extern __shared__ __align__(16) unsigned char memory[];
  int64_t index = 0;
  const int document =
      OwnerOfSlot(s.cu_keys, s.documents, int64_t{1}, kTileRows, int64_t{blockIdx.x}, &index);
  const int group = static_cast<int>(blockIdx.y);
  const int64_t key = s.cu_keys[document] + index * kTileRows,
                document_end = s.cu_keys[document + 1], part = blockIdx.z,
                parts = partial == nullptr ? 1 : NumParts(s, document);
  if (key >= document_end || part >= parts) return;
  const int keys = static_cast<int>(min(int64_t{kTileRows}, document_end - key));

  const int64_t token0 = s.cu_queries[document];
  const TokenRange tokens = TokensOf(s, in.ranges, document, key, keys, part, parts);
  const int64_t first = (tokens.begin - token0) * s.rep, end = (tokens.end - token0) * s.rep;

  const KeyTileMemory<T> m(memory, s.dk, s.dv);
  StartLoad(m.k, s.dk, kTileRows, in.packed_k, [&](int r) {
    return r < keys ? in.k + ((key + r) * s.groups + group) * s.dk : nullptr;
  });
  StartLoad(m.v, s.dv, kTileRows, in.packed_v, [&](int r) {
    return r < keys ? in.v + ((key + r) * s.groups + group) * s.dv : nullptr;
  });
  FinishLoads();
  KeyTileGradients<T, kMaxDk, kMaxDv> gradients;
  gradients.Run(
      s, m, {in.q, in.d_o, lse, delta, in.packed_k, in.packed_v},
      RangeRows{in.ranges, token0, key, s.heads, static_cast<uint32_t>(s.rep), group * s.rep},
      first, end);

  const int64_t part_row =
      PartialRow(s, document, key) + part * (document_end - s.cu_keys[document]);
  const auto store = [&](T* out, int width, int at, int r, int column, float a, float b) {
    if (r >= keys) return;
    if (partial == nullptr) {
      StoreColumns(out + ((key + r) * s.groups + group) * width, column, width, a, b);
    } else {
      StoreColumns(partial + ((part_row + r) * s.groups + group) * (s.dk + s.dv) + at, column,
                   width, a, b);
    }
  };
  gradients.Emit(
      s, [&](int r, int c, float a, float b) { store(dk, s.dk, 0, r, c, a, b); },
      [&](int r, int c, float a, float b) { store(dv, s.dv, s.dk, r, c, a, b); });
}

// dk, dv of a key row a block: the sums of its parts in order.
template <class T>
__global__ void SumPartsKernel(AttentionSizes s, const float* partial, T* dk, T* dv) {
  const int64_t key = blockIdx.x;
  const int document = DocumentOfRow(s.cu_keys, s.documents, key);
  const int64_t parts = NumParts(s, document), row = PartialRow(s, document, key),
                keys = s.cu_keys[document + 1] - s.cu_keys[document];
  const int width = s.dk + s.dv, line = s.groups * width;
  for (int i = static_cast<int>(threadIdx.x); i < line; i += blockDim.x) {
    float sum = 0;
    for (int64_t part = 0; part < parts; ++part) sum += partial[(row + part * keys) * line + i];
    const int64_t head = key * s.groups + i / width;
    const int column = i % width;
    if (column < s.dk) {
      dk[head * s.dk + column] = Store<T>(sum);
    } else {
      dv[head * s.dv + column - s.dk] = Store<T>(sum);
    }
  }
}

template <class T, class Args>
Pointers<T> PointersOf(const Args& args, const T* d_o) {
  const int64_t dk = args.q.dim(2), dv = args.v.dim(2);
  return {.q = args.q.template As<T>(),
          .k = args.k.template As<T>(),
          .v = args.v.template As<T>(),
          .d_o = d_o,
          .ranges = args.ranges.template As<int32_t>(),
          .packed_k = Packable<T>(args.q.data, dk) && Packable<T>(args.k.data, dk),
          .packed_v = Packable<T>(args.v.data, dv) && Packable<T>(d_o, dv)};
}

dim3 QueryGrid(const AttentionSizes& s) {
  return dim3(static_cast<unsigned>(NumSlots(s.queries, s.rep, kTileRows, s.documents)),
              static_cast<unsigned>(s.groups));
}

template <class T, int kMaxDk, int kMaxDv>
void Backward(const AttentionBwdArgs& args, Stream stream) {
  const auto s = AttentionSizes::Of(args);
  if (s.queries * s.rep > UINT32_MAX)
    Fail(__FILE__, __LINE__, "attention_bwd: 2^32 rows in a group", cudaErrorInvalidValue);
  const auto in = PointersOf<T>(args, args.d_o.As<T>());
  const float* lse = args.lse.As<float>();
  const Delta<T> delta(args, stream);
  if (hopper::SupportsDq(args, stream)) {
    hopper::AttentionDq(args, delta.data(), stream);
  } else {
    constexpr int64_t kKeys = kPassingRows<T>;
    const int64_t memory = ((kTileRows + kKeys) * (TileStride<T>(s.dk) + TileStride<T>(s.dv)) +
                            kTileRows * TileStride<T>(kKeys)) *
                           static_cast<int64_t>(sizeof(T));
    LaunchGrid(QueryGradientKernel<T, kMaxDk>, QueryGrid(s), kQueryThreads, memory, stream, s, in,
               lse, delta.data(), args.add_dq, args.dq.As<T>());
  }

  const Stream key_stream = StreamOr(args.key_stream, stream);
  // Where queries and keys are the same rows there is one part, and no partial sums.
  const bool in_parts = s.cu_queries != s.cu_keys;
  const Workspace partial(in_parts ? (s.queries + s.keys) * s.groups * (s.dk + s.dv) * 4 : 0,
                          key_stream);
  const dim3 grid(static_cast<unsigned>(NumSlots(s.keys, 1, kTileRows, s.documents)),
                  static_cast<unsigned>(s.groups), in_parts ? kMaxParts : 1);
  float* const sums = in_parts ? partial.As<float>() : nullptr;
  if (hopper::SupportsDkv(args, stream)) {
    hopper::AttentionDkv(args, delta.data(), in_parts ? kMaxParts : 1, sums, key_stream);
  } else {
    LaunchGrid(KeyGradientKernel<T, kMaxDk, kMaxDv>, grid, 256, KeyTileMemory<T>::Bytes(s.dk, s.dv),
               key_stream, s, in, lse, delta.data(), args.dk.As<T>(), args.dv.As<T>(), sums);
  }
  if (!in_parts) return;
  LaunchGrid(SumPartsKernel<T>, dim3(static_cast<unsigned>(s.keys)), dim3(kThreads), 0, key_stream,
             s, partial.As<float>(), args.dk.As<T>(), args.dv.As<T>());
}

// Before cuDNN: its deterministic backward goes over all pairs of a window's documents, is slower
// where there is much to do (9.2 ms where ours takes 7.9, at 8192 tokens), and ends at some length.
bool OursIsPreferred(const AttentionBwdArgs& args, Stream stream) {
  const bool window = args.causal.window > 0 && args.causal.window < args.causal.max_length,
             long_enough = args.q.dim(0) >= kRowsOfOurs;
  return (args.add_dq || window || (args.deterministic && long_enough)) &&
         hopper::SupportsDq(args, stream) && hopper::SupportsDkv(args, stream);
}

}  // namespace

void AttentionFwd(const AttentionFwdArgs& args, Stream stream) {
  if (hopper::Supports(args, stream)) return hopper::AttentionFwd(args, stream);
  if (CudnnAttentionFwd(args, stream)) return;
  const auto s = AttentionSizes::Of(args);
  DispatchDeviceFloat(args.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    DispatchWidths(s.dk, s.dv, [&](auto, auto max_dv) {
      constexpr int kMaxDv = decltype(max_dv)::value;
      constexpr int64_t kKeys = kPassingRows<T>;
      const int64_t memory = ((kTileRows + kKeys) * TileStride<T>(s.dk) +
                              kKeys * TileStride<T>(s.dv) + kTileRows * TileStride<T>(kKeys)) *
                             static_cast<int64_t>(sizeof(T));
      LaunchGrid(ForwardKernel<T, kMaxDv>, QueryGrid(s), kQueryThreads, memory, stream, s,
                 PointersOf<T>(args, static_cast<const T*>(nullptr)), args.o.As<T>(),
                 args.lse.As<float>());
    });
  });
}

void AttentionBwd(const AttentionBwdArgs& args, Stream stream) {
  if (!OursIsPreferred(args, stream) && CudnnAttentionBwd(args, stream)) return;
  DispatchDeviceFloat(args.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    DispatchWidths(args.q.dim(2), args.v.dim(2), [&](auto max_dk, auto max_dv) {
      Backward<T, decltype(max_dk)::value, decltype(max_dv)::value>(args, stream);
    });
  });
}

}  // namespace lacuna::cuda
