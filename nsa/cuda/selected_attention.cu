// Attention to the selected blocks.
//
//   forward, dQ  by query token: 16 rows (heads of the group) and the blocks of the token's list, 64
//                keys at a time. Four warps share the 16 rows: each forms S for 16 of the keys and
//                keeps a quarter of the columns of O (dQ); P (dS) goes through shared memory, the
//                row maxima of the warps too.
//                K of the next keys is on its way during P V, V during Q K^T.
//   dK, dV       by key block (KeyTileGradients): the tokens that chose it come from the inverted
//                lists, long ones in chunks (list_chunks.cuh), whose f32 sums are added in order
//                afterwards.
#include "core/cuda/attention_tiles.cuh"
#include "core/cuda/memory.h"
#include "nsa/cuda/hopper/selected_attention.h"
#include "nsa/cuda/inverted_lists.cuh"
#include "nsa/cuda/list_sums.cuh"
#include "nsa/gate_combine.h"
#include "nsa/selected_attention.h"

namespace lacuna::cuda {
namespace {

constexpr int kTokenThreads = 128;
constexpr int kTokenWarps = kTokenThreads / kWarp;
constexpr int kHeads = 16;  // rows of a token's tile
constexpr int kKeys = 64;
constexpr int kWarpTiles = kMaxHeadWidth / 8 / kTokenWarps;  // column tiles of a warp, at most
// Rows of partial sums in memory together, unless one group has more.
constexpr int64_t kSumsTogether = 1 << 18;

struct Selection {
  const int32_t *blocks, *positions;
  int places, select_block;
};

template <class T>
struct Pointers {
  const T *q, *k, *v, *d_o;
  bool packed_k, packed_v;
};

// A query token with up to 16 heads of a group, and the tiles of keys that it sees.
class TokenTile {
 public:
  int64_t key = 0;    // of the current tile, a row of k
  int keys = 0;       // visible there; 0 behind the last tile
  int64_t first_row;  // of the tile's rows among [N, H]
  int rows, group;

  __device__ TokenTile(const AttentionSizes& s, const Selection& selection)
      : group(static_cast<int>(blockIdx.y)), selection_(selection) {
    const int64_t n = blockIdx.x;
    const int first_head = static_cast<int>(blockIdx.z) * kHeads;
    rows = min(kHeads, s.rep - first_head);
    first_row = n * s.heads + group * s.rep + first_head;
    first_key_ = s.cu_keys[DocumentOfRow(s.cu_queries, s.documents, n)];
    list_ = selection.blocks + (n * s.groups + group) * selection.places;
    position_ = selection.positions[n];
    Next();
  }

  // On to the next tile with visible keys.
  __device__ void Next() {
    for (keys = 0; keys <= 0 && place_ < selection_.places;) {
      const int block = list_[place_];
      if (block < 0) break;
      const int64_t token = int64_t{block} * selection_.select_block + within_;
      key = first_key_ + token;
      keys = static_cast<int>(
          min(int64_t{min(kKeys, selection_.select_block - within_)}, position_ - token + 1));
      within_ += kKeys;
      if (within_ < selection_.select_block) continue;
      within_ = 0;
      ++place_;
    }
    keys = max(keys, 0);
  }

 private:
  const Selection& selection_;
  const int32_t* list_;
  int64_t first_key_, position_;
  int place_ = 0, within_ = 0;
};

template <class T>
__device__ void StartHeads(T* tile, const T* x, const TokenTile& token, int width, bool packed) {
  StartLoad(tile, width, kHeads, packed,
            [&](int r) { return r < token.rows ? x + (token.first_row + r) * width : nullptr; });
}
template <class T>
__device__ void StartKeys(T* tile, const T* x, const AttentionSizes& s, const TokenTile& token,
                          int width, bool packed) {
  StartLoad(tile, width, kKeys, packed, [&](int r) {
    return r < token.keys ? x + ((token.key + r) * s.groups + token.group) * width : nullptr;
  });
}

// The columns of [16, width] that are this warp's: `tiles` column tiles from `first`.
struct WarpColumns {
  int first, tiles;
  __device__ explicit WarpColumns(int width) {
    const int pairs = PaddedWidth(width) / 16, share = (pairs + kTokenWarps - 1) / kTokenWarps,
              warp = static_cast<int>(threadIdx.x) / kWarp;
    first = warp * share * 16;
    tiles = max(0, min(share, pairs - warp * share)) * 2;
  }
};

template <class T>
__global__ void __launch_bounds__(kTokenThreads)
    ForwardKernel(AttentionSizes s, Selection selection, Pointers<T> in, T* o_out, float* lse) {
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ float maxima[kTokenWarps][kHeads], sums[kTokenWarps][kHeads];
  constexpr int kStride = TileStride<T>(kKeys);
  const int dk_stride = TileStride<T>(s.dk), dv_stride = TileStride<T>(s.dv);
  T* const q = reinterpret_cast<T*>(memory);
  T* const k = q + kHeads * dk_stride;
  T* const v = k + kKeys * dk_stride;
  T* const p = v + kKeys * dv_stride;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, row = FragmentRow();
  const WarpColumns columns(s.dv);
  TokenTile token(s, selection);
  float o[kWarpTiles][4], top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  Clear(o);
  StartHeads(q, in.q, token, s.dk, in.packed_k);
  StartKeys(k, in.k, s, token, s.dk, in.packed_k);
  while (token.keys > 0) {
    FinishLoads();
    __syncthreads();
    StartKeys(v, in.v, s, token, s.dv, in.packed_v);
    float scores[2][4];
    Clear(scores);
    WarpProduct<LayoutB::kColumns>(scores, 2, PaddedWidth(s.dk), q, dk_stride,
                                   k + warp * 16 * dk_stride, dk_stride);
    float largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int t = 0; t < 2; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool seen = warp * 16 + 8 * t + FragmentColumn() + e % 2 < token.keys;
        scores[t][e] = seen ? scores[t][e] * (s.scale * kLog2E) : -INFINITY;
        largest[e / 2] = fmaxf(largest[e / 2], scores[t][e]);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      largest[i] = QuadMax(largest[i]);
      if (FragmentColumn() == 0) maxima[warp][row + 8 * i] = largest[i];
    }
    __syncthreads();
    float shrink[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float all = top[i];
      for (int w = 0; w < kTokenWarps; ++w) all = fmaxf(all, maxima[w][row + 8 * i]);
      const float finite = all == -INFINITY ? 0.0f : all;
      shrink[i] = exp2f(top[i] - finite);
      top[i] = all;
      sum[i] *= shrink[i];
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        const float a = exp2f(scores[t][2 * i] - finite), b = exp2f(scores[t][2 * i + 1] - finite);
        sum[i] += a + b;
        StorePair(p + (row + 8 * i) * kStride + warp * 16 + 8 * t + FragmentColumn(), a, b);
      }
    }
#pragma unroll
    for (int t = 0; t < kWarpTiles; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) o[t][e] *= shrink[e / 2];
    }
    FinishLoads();
    __syncthreads();
    token.Next();
    if (token.keys > 0) StartKeys(k, in.k, s, token, s.dk, in.packed_k);
    WarpProduct<LayoutB::kRows>(o, columns.tiles, kKeys, p, kStride, v + columns.first, dv_stride);
  }
  FinishLoads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float own = QuadSum(sum[i]);
    if (FragmentColumn() == 0) sums[warp][row + 8 * i] = own;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float total = 0;
    for (int w = 0; w < kTokenWarps; ++w) total += sums[w][row + 8 * i];
    if (row + 8 * i >= token.rows) continue;
    const int64_t offset = token.first_row + row + 8 * i;
    const float inverse = total == 0 ? 0.0f : 1.0f / total;
#pragma unroll
    for (int t = 0; t < kWarpTiles; ++t) {
      if (t >= columns.tiles) break;
      StoreColumns(o_out + offset * s.dv, columns.first + 8 * t + FragmentColumn(), s.dv,
                   o[t][2 * i] * inverse, o[t][2 * i + 1] * inverse);
    }
    if (warp == 0 && FragmentColumn() == 0)
      lse[offset] = total == 0 ? -INFINITY : top[i] * kLn2 + logf(total);
  }
}

template <class T>
__global__ void __launch_bounds__(kTokenThreads)
    QueryGradientKernel(AttentionSizes s, Selection selection, Pointers<T> in, const float* lse_in,
                        const float* delta_in, bool add, T* dq_out) {
  extern __shared__ __align__(16) unsigned char memory[];
  constexpr int kStride = TileStride<T>(kKeys);
  const int dk_stride = TileStride<T>(s.dk), dv_stride = TileStride<T>(s.dv);
  T* const q = reinterpret_cast<T*>(memory);
  T* const d_o = q + kHeads * dk_stride;
  T* const k = d_o + kHeads * dv_stride;
  T* const v = k + kKeys * dk_stride;
  T* const ds = v + kKeys * dv_stride;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, row = FragmentRow();
  const WarpColumns columns(s.dk);
  TokenTile token(s, selection);
  float lse[2] = {0, 0}, delta[2] = {0, 0};
  for (int i = 0; i < 2; ++i) {
    if (row + 8 * i >= token.rows) continue;
    lse[i] = lse_in[token.first_row + row + 8 * i];
    delta[i] = delta_in[token.first_row + row + 8 * i];
  }
  float dq[kWarpTiles][4];
  Clear(dq);
  StartHeads(q, in.q, token, s.dk, in.packed_k);
  StartHeads(d_o, in.d_o, token, s.dv, in.packed_v);
  for (; token.keys > 0; token.Next()) {
    __syncthreads();
    StartKeys(k, in.k, s, token, s.dk, in.packed_k);
    StartKeys(v, in.v, s, token, s.dv, in.packed_v);
    FinishLoads();
    __syncthreads();
    float p[2][4], dp[2][4];
    Clear(p);
    Clear(dp);
    WarpProduct<LayoutB::kColumns>(p, 2, PaddedWidth(s.dk), q, dk_stride, k + warp * 16 * dk_stride,
                                   dk_stride);
    WarpProduct<LayoutB::kColumns>(dp, 2, PaddedWidth(s.dv), d_o, dv_stride,
                                   v + warp * 16 * dv_stride, dv_stride);
#pragma unroll
    for (int t = 0; t < 2; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool seen = warp * 16 + 8 * t + FragmentColumn() + e % 2 < token.keys;
        const float probability = exp2f(kLog2E * (s.scale * p[t][e] - lse[e / 2]));
        dp[t][e] = seen ? probability * (dp[t][e] - delta[e / 2]) : 0.0f;
      }
      T* const at = ds + row * kStride + warp * 16 + 8 * t + FragmentColumn();
      StorePair(at, dp[t][0], dp[t][1]);
      StorePair(at + 8 * kStride, dp[t][2], dp[t][3]);
    }
    __syncthreads();
    WarpProduct<LayoutB::kRows>(dq, columns.tiles, kKeys, ds, kStride, k + columns.first,
                                dk_stride);
  }
  FinishLoads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (row + 8 * i >= token.rows) continue;
    T* const out = dq_out + (token.first_row + row + 8 * i) * s.dk;
#pragma unroll
    for (int t = 0; t < kWarpTiles; ++t) {
      if (t >= columns.tiles) break;
      PutColumns(add, out, columns.first + 8 * t + FragmentColumn(), s.dk, s.scale * dq[t][2 * i],
                 s.scale * dq[t][2 * i + 1]);
    }
  }
}

// Rows (chosen token, head) of a key tile, which starts at token `first` of its document.
struct ChosenRows {
  const int32_t *list, *positions;
  int64_t first;
  int heads, rep, first_head, keys;

  __device__ int64_t token(int64_t i) const { return list[static_cast<uint32_t>(i) / rep]; }
  __device__ int64_t offset(int64_t i) const {
    return token(i) * heads + first_head + static_cast<uint32_t>(i) % rep;
  }
  __device__ void visible(int64_t i, int* begin, int* end) const {
    *begin = 0;
    *end = static_cast<int>(max(int64_t{0}, min(int64_t{keys}, positions[token(i)] - first + 1)));
  }
};

// The lists, and the chunks of the grid.
template <class T>
struct KeyWork {
  ListSizes lists;
  const int32_t* rows;
  const ListChunks* of_list;
  const Chunk* chunks;
  ListSums<T> sums;
};

// One chunk (blockIdx.x) of the rows of a block, 64 of its keys (blockIdx.y).
template <class T, int kMaxDk, int kMaxDv>
__global__ void __launch_bounds__(256)
    KeyGradientKernel(AttentionSizes s, Selection selection, Pointers<T> in, KeyWork<T> work,
                      const float* lse, const float* delta) {
  extern __shared__ __align__(16) unsigned char memory[];
  const Chunk chunk = work.chunks[blockIdx.x];
  if (chunk.list < 0) return;
  const ListChunks of_list = work.of_list[chunk.list];
  const int64_t start = work.lists.start[chunk.list],
                tokens = work.lists.start[chunk.list + 1] - start;
  const int group = static_cast<int>(chunk.list / work.lists.num_blocks),
            within = static_cast<int>(blockIdx.y) * kTileRows;
  int64_t index = 0;
  const int document = OwnerOfSlot(s.cu_keys, s.documents, int64_t{1}, selection.select_block,
                                   chunk.list % work.lists.num_blocks, &index);
  const int64_t token = index * selection.select_block + within, key = s.cu_keys[document] + token;
  const int keys = static_cast<int>(
      min(int64_t{min(kTileRows, selection.select_block - within)}, s.cu_keys[document + 1] - key));
  if (keys <= 0) return;

  const KeyTileMemory<T> m(memory, s.dk, s.dv);
  StartLoad(m.k, s.dk, kTileRows, in.packed_k, [&](int r) {
    return r < keys ? in.k + ((key + r) * s.groups + group) * s.dk : nullptr;
  });
  StartLoad(m.v, s.dv, kTileRows, in.packed_v, [&](int r) {
    return r < keys ? in.v + ((key + r) * s.groups + group) * s.dv : nullptr;
  });
  FinishLoads();
  KeyTileGradients<T, kMaxDk, kMaxDv> gradients;
  const ChosenRows chosen{.list = work.rows + start,
                          .positions = selection.positions,
                          .first = token,
                          .heads = s.heads,
                          .rep = s.rep,
                          .first_head = group * s.rep,
                          .keys = keys};
  gradients.Run(s, m, {in.q, in.d_o, lse, delta, in.packed_k, in.packed_v}, chosen,
                FirstOfChunk(tokens, chunk.index, of_list.count) * s.rep,
                FirstOfChunk(tokens, chunk.index + 1, of_list.count) * s.rep);

  const auto emit = [&](auto* dk, auto* dv, int dk_stride, int dv_stride) {
    gradients.Emit(
        s,
        [&](int r, int c, float a, float b) {
          if (r < keys) StoreColumns(dk + r * dk_stride, c, s.dk, a, b);
        },
        [&](int r, int c, float a, float b) {
          if (r < keys) StoreColumns(dv + r * dv_stride, c, s.dv, a, b);
        });
  };
  if (of_list.count == 1) {
    const int64_t row = key * s.groups + group;
    emit(work.sums.dk + row * s.dk, work.sums.dv + row * s.dv, s.groups * s.dk, s.groups * s.dv);
  } else {
    const int width = s.dk + s.dv;
    const int64_t sum = of_list.first_sum + chunk.index;
    float* const out = work.sums.partial + (sum * selection.select_block + within) * width;
    emit(out, out + s.dk, width, width);
  }
}

template <class Args>
Selection SelectionOf(const Args& args) {
  return {args.blocks.template As<int32_t>(), args.positions.template As<int32_t>(),
          static_cast<int>(args.blocks.dim(2)), static_cast<int>(args.select_block)};
}

template <class T, class Args>
Pointers<T> PointersOf(const Args& args, const T* d_o) {
  const int64_t dk = args.q.dim(2), dv = args.v.dim(2);
  if (dk > kMaxHeadWidth || dv > kMaxHeadWidth)
    Fail(__FILE__, __LINE__, "selected attention: heads are at most 256 wide",
         cudaErrorInvalidValue);
  return {.q = args.q.template As<T>(),
          .k = args.k.template As<T>(),
          .v = args.v.template As<T>(),
          .d_o = d_o,
          .packed_k = Packable<T>(args.q.data, dk) && Packable<T>(args.k.data, dk),
          .packed_v = Packable<T>(args.v.data, dv) && Packable<T>(d_o, dv)};
}

dim3 TokenGrid(const AttentionSizes& s) {
  return dim3(static_cast<unsigned>(s.queries), static_cast<unsigned>(s.groups),
              static_cast<unsigned>((s.rep + kHeads - 1) / kHeads));
}

template <class T, int kMaxDk, int kMaxDv>
void KeyGradients(const AttentionSizes& s, const Selection& selection, const Pointers<T>& in,
                  const SelectedAttentionBwdArgs& args, const float* delta, Stream stream) {
  const InvertedLists inverted(s, selection.blocks, selection.places, selection.select_block,
                               stream);
  const ListSizes lists{s,
                        selection.places,
                        selection.select_block,
                        inverted.num_blocks(),
                        inverted.start(),
                        inverted.rows()};
  const int together = static_cast<int>(std::clamp<int64_t>(
      kSumsTogether / std::max<int64_t>(1, lists.MaxSums() * selection.select_block), 1, s.groups));
  const int64_t list_count = s.groups * inverted.num_blocks(),
                capacity = together * lists.MaxChunks();
  const Workspace of_list(list_count * int64_t{sizeof(ListChunks)}, stream),
      chunks(capacity * int64_t{sizeof(Chunk)}, stream),
      partial(together * lists.MaxSums() * selection.select_block * (s.dk + s.dv) * 4, stream);
  const KeyWork<T> work{
      lists,           inverted.rows(), of_list.As<ListChunks>(), chunks.As<Chunk>(),
      args.dk.As<T>(), args.dv.As<T>(), partial.As<float>()};
  for (int group = 0; group < s.groups; group += together) {
    const int groups = std::min(together, s.groups - group);
    LaunchGrid(PlanChunksKernel, dim3(1), dim3(kPlanThreads), kPlanShared, stream, lists, group,
               groups, static_cast<int>(capacity), of_list.As<ListChunks>(), chunks.As<Chunk>());
    if (hopper::Supports(args, stream)) {
      hopper::SelectedDkv(args, delta,
                          {.starts = inverted.start(),
                           .rows = inverted.rows(),
                           .num_blocks = inverted.num_blocks(),
                           .of_list = work.of_list,
                           .chunks = work.chunks,
                           .num_chunks = static_cast<int>(capacity)},
                          work.sums.partial, stream);
    } else {
      const dim3 grid(static_cast<unsigned>(capacity),
                      static_cast<unsigned>((selection.select_block + kTileRows - 1) / kTileRows));
      LaunchGrid(KeyGradientKernel<T, kMaxDk, kMaxDv>, grid, 256,
                 KeyTileMemory<T>::Bytes(s.dk, s.dv), stream, s, selection, in, work,
                 args.lse.As<float>(), delta);
    }
    const dim3 sums(static_cast<unsigned>(groups * inverted.num_blocks()),
                    static_cast<unsigned>((selection.select_block + kSumKeys - 1) / kSumKeys));
    LaunchGrid(SumChunksKernel<T>, sums, dim3(kThreads), 0, stream, lists, work.sums, work.of_list,
               group * inverted.num_blocks());
  }
}

}  // namespace

void SelectedAttentionFwd(const SelectedAttentionFwdArgs& args, Stream stream) {
  if (hopper::Supports(args, stream)) return hopper::SelectedAttentionFwd(args, stream);
  DispatchDeviceFloat(args.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto s = AttentionSizes::Of(args);
    const int64_t memory = ((kHeads + kKeys) * TileStride<T>(s.dk) + kKeys * TileStride<T>(s.dv) +
                            kHeads * TileStride<T>(kKeys)) *
                           static_cast<int64_t>(sizeof(T));
    LaunchGrid(ForwardKernel<T>, TokenGrid(s), kTokenThreads, memory, stream, s, SelectionOf(args),
               PointersOf<T>(args, static_cast<const T*>(nullptr)), args.o.As<T>(),
               args.lse.As<float>());
  });
  if (args.o_sum.defined()) GateCombineFwd(GatedSumOf(args), stream);
}

void SelectedAttentionBwd(const SelectedAttentionBwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto s = AttentionSizes::Of(args);
    const Selection selection = SelectionOf(args);
    const auto in = PointersOf<T>(args, static_cast<const T*>(args.d_o.As<T>()));
    const Delta<T> delta(args, stream);
    if (hopper::Supports(args, stream)) {
      hopper::SelectedDq(args, delta.data(), stream);
    } else {
      const int64_t memory = ((kHeads + kKeys) * (TileStride<T>(s.dk) + TileStride<T>(s.dv)) +
                              kHeads * TileStride<T>(kKeys)) *
                             static_cast<int64_t>(sizeof(T));
      LaunchGrid(QueryGradientKernel<T>, TokenGrid(s), kTokenThreads, memory, stream, s, selection,
                 in, args.lse.As<float>(), delta.data(), args.add_dq, args.dq.As<T>());
    }
    DispatchWidths(s.dk, s.dv, [&](auto max_dk, auto max_dv) {
      KeyGradients<T, decltype(max_dk)::value, decltype(max_dv)::value>(
          s, selection, in, args, delta.data(), StreamOr(args.key_stream, stream));
    });
  });
}

}  // namespace lacuna::cuda
