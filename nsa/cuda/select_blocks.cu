// Scores and choice, a tile of query tokens of one document and group a block of threads.
//
//   rows (token, head of the group), 64 at a time       keys 64 at a time
//   S = Q K_cmp^T  ->  P = exp(scale S - lse), f32      [64, 64] in shared memory
//   sums over the heads                                 [tokens, 64]
//   block scores: a thread a (token, block), each compressed row times the number of its pieces in
//   the block, rows ascending                           [tokens, blocks], kept over the key tiles
//
// Then a warp a token: the threshold (score, index) of the last block taken is found by repeated
// maxima, and the list is written by one pass over the blocks, so it comes out ascending. Every sum
// is one thread's (or one warp's) in an order that does not depend on the tile's shape.
//
// Shared memory: Q and K in T, P, the sums and the scores in f32. A tile has as many tokens as have
// room with their scores, at most 64 rows unless a token alone has more (then heads go in turns).
#include "core/cuda/attention_tiles.cuh"
#include "nsa/cuda/hopper/block_choice.cuh"
#include "nsa/cuda/hopper/select_blocks.h"
#include "nsa/select_blocks.h"

namespace lacuna::cuda {
namespace {

constexpr int kSelectThreads = 128;
constexpr int kKeys = 64;
constexpr int kStride = kKeys + 4;  // of P

struct Choice {
  const int32_t *ranges, *positions;
  int32_t* blocks;
  float *scores, *entropy;  // null if not asked for
  int places, num_init, num_local, select_block;
  int pieces, overlap;  // of d tokens: in a selection block, in a compressed one
  int width;            // blocks that a compressed row can lie in
  int scores_width;     // Ts
  int tile_tokens;
};

struct Best {
  float score;
  int block;
  __device__ bool Before(const Best& other) const {
    return score > other.score || (score == other.score && block < other.block);
  }
};
__device__ Best WarpBest(Best best) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const Best other{__shfl_xor_sync(0xFFFFFFFFu, best.score, offset),
                     __shfl_xor_sync(0xFFFFFFFFu, best.block, offset)};
    if (other.Before(best)) best = other;
  }
  return best;
}

// Scores of a token's blocks; those that no compressed row reaches have 0.
struct TokenScores {
  const float* score;
  int width;
  __device__ float operator[](int j) const { return j < width ? score[j] : 0.0f; }
  __device__ float rank(int j) const {
    const float s = (*this)[j];
    return isnan(s) ? -INFINITY : s;
  }
};

// One token and group, by a warp.
__device__ void ChooseFor(const Choice& c, const TokenScores& scores, int own, int32_t* out) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int init = min(c.num_init, own + 1), local = max(init, own - c.num_local + 1);
  // Blocks [0, init) and [local, own] are forced, those between compete.
  const int forced = init + own + 1 - local, free = c.places - forced;
  // (Asked of `free`, not of min(free, available): nvcc 13.0 gets a comparison with the minimum of
  // the two wrong.)
  const bool all = free >= local - init;
  Best last = all ? Best{-INFINITY, INT32_MAX} : Best{INFINITY, -1};
  for (int round = 0; !all && round < free; ++round) {
    Best best{-INFINITY, INT32_MAX};
    for (int j = init + lane; j < local; j += kWarp) {
      const Best candidate{scores.rank(j), j};
      if (last.Before(candidate) && candidate.Before(best)) best = candidate;
    }
    last = WarpBest(best);
  }
  for (int j = lane; j < init; j += kWarp) out[j] = j;
  int next = init;
  for (int first = init; first < local; first += kWarp) {
    const int j = first + lane;
    const bool chosen = j < local && !last.Before(Best{scores.rank(min(j, local - 1)), j});
    const unsigned ballot = __ballot_sync(0xFFFFFFFFu, chosen);
    if (chosen) out[next + __popc(ballot & ((1u << lane) - 1))] = j;
    next += __popc(ballot);
  }
  for (int j = local + lane; j <= own; j += kWarp) out[next + j - local] = j;
  for (int i = next + own + 1 - local + lane; i < c.places; i += kWarp) out[i] = -1;
}

__device__ float NormalisedEntropy(const TokenScores& scores, int count) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float total = 0, entropy = 0;
  for (int j = lane; j < count; j += kWarp) total += scores[j];
  total = WarpReduce(total);
  if (count < 2 || !(total > 0)) return 0;
  for (int j = lane; j < count; j += kWarp) {
    const float share = scores[j] / total;
    entropy -= share > 0 ? share * logf(share) : 0.0f;
  }
  return WarpReduce(entropy) / logf(static_cast<float>(count));
}

// P of rows [first_row, first_row + 64) of the tile for one key tile.
template <class T>
__device__ void Probabilities(const AttentionSizes& s, const Choice& c, const float* lse,
                              const T* q, const T* k, float* p, int64_t first_token, int group,
                              int first_row, int rows, int64_t key) {
  const int stride = TileStride<T>(s.dk), warp_row = static_cast<int>(threadIdx.x) / kWarp * 16;
  float scores[kKeys / 8][4];
  Clear(scores);
  WarpProduct<LayoutB::kColumns>(scores, kKeys / 8, PaddedWidth(s.dk), q + warp_row * stride,
                                 stride, k, stride);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = warp_row + FragmentRow() + 8 * i, row = first_row + r;
    int64_t end = 0;
    float row_lse = 0;
    if (row < rows) {
      const int64_t n = first_token + row / s.rep;
      end = c.ranges[2 * n + 1] - key;
      row_lse = lse[n * s.heads + group * s.rep + row % s.rep];
    }
#pragma unroll
    for (int t = 0; t < kKeys / 8; ++t) {
      for (int e = 0; e < 2; ++e) {
        const int column = 8 * t + FragmentColumn() + e;
        const float probability = exp2f(kLog2E * (s.scale * scores[t][2 * i + e] - row_lse));
        p[r * kStride + column] = column < end ? hopper::select::WithFloor(probability) : 0.0f;
      }
    }
  }
}

// Adds key tile [first, first + kKeys) (of the document) to the scores of the blocks it touches.
__device__ void AddToScores(const Choice& c, const float* sums, float* scores, int tokens,
                            int first, int end) {
  const int first_block = first / c.pieces,
            blocks = (end - 1 + c.overlap - 1) / c.pieces - first_block + 1;
  for (int i = static_cast<int>(threadIdx.x); i < tokens * blocks; i += blockDim.x) {
    const int token = i / blocks, j = first_block + i % blocks, begin = j * c.pieces;
    float score = scores[token * c.width + j];
    for (int row = max(first, begin - c.overlap + 1); row < min(end, begin + c.pieces); ++row) {
      const int count = min(c.overlap, begin + c.pieces - row) - max(0, begin - row);
      score += static_cast<float>(count) * sums[token * kKeys + row - first];
    }
    scores[token * c.width + j] = score;
  }
}

template <class T>
__global__ void __launch_bounds__(kSelectThreads)
    SelectKernel(AttentionSizes s, Choice c, const T* q_in, const T* k_in, const float* lse,
                 bool packed) {
  extern __shared__ __align__(16) unsigned char memory[];
  const int stride = TileStride<T>(s.dk);
  T* const q = reinterpret_cast<T*>(memory);
  T* const k = q + kTileRows * stride;
  float* const p = reinterpret_cast<float*>(k + kKeys * stride);
  float* const sums = p + kTileRows * kStride;
  float* const scores = sums + c.tile_tokens * kKeys;

  int64_t index = 0;
  const int document = OwnerOfSlot(s.cu_queries, s.documents, int64_t{1}, c.tile_tokens,
                                   int64_t{gridDim.x - 1 - blockIdx.x}, &index);
  const int group = static_cast<int>(blockIdx.y);
  const int64_t first_token = s.cu_queries[document] + index * c.tile_tokens,
                key0 = s.cu_keys[document];
  const int tokens =
      static_cast<int>(min(int64_t{c.tile_tokens}, s.cu_queries[document + 1] - first_token));
  if (tokens <= 0) return;
  const int rows = tokens * s.rep,
            visible = static_cast<int>(c.ranges[2 * (first_token + tokens - 1) + 1] - key0);
  for (int i = static_cast<int>(threadIdx.x); i < tokens * c.width; i += blockDim.x) scores[i] = 0;

  for (int first = 0; first < visible; first += kKeys) {
    const int64_t key = key0 + first;
    const int end = min(visible, first + kKeys);
    for (int first_row = 0; first_row < rows; first_row += kTileRows) {
      __syncthreads();
      if (first == 0 || rows > kTileRows) {
        StartLoad(q, s.dk, kTileRows, packed, [&](int r) {
          const int row = first_row + r;
          const int64_t offset =
              (first_token + row / s.rep) * s.heads + group * s.rep + row % s.rep;
          return row < rows ? q_in + offset * s.dk : nullptr;
        });
      }
      if (first_row == 0) {
        StartLoad(k, s.dk, kKeys, packed, [&](int r) {
          return first + r < end ? k_in + ((key + r) * s.groups + group) * s.dk : nullptr;
        });
      }
      FinishLoads();
      __syncthreads();
      Probabilities(s, c, lse, q, k, p, first_token, group, first_row, rows, key);
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < tokens * kKeys; i += blockDim.x) {
        const int token = i / kKeys, column = i % kKeys;
        float sum = first_row == 0 ? 0.0f : sums[i];
        const int to = min(kTileRows, (token + 1) * s.rep - first_row);
        for (int r = max(0, token * s.rep - first_row); r < to; ++r) sum += p[r * kStride + column];
        sums[i] = sum;
      }
    }
    __syncthreads();
    AddToScores(c, sums, scores, tokens, first, end);
  }
  __syncthreads();

  for (int token = static_cast<int>(threadIdx.x) / kWarp; token < tokens;
       token += kSelectThreads / kWarp) {
    const int64_t n = first_token + token, row = n * s.groups + group;
    const int own = c.positions[n] / c.select_block, lane = static_cast<int>(threadIdx.x) % kWarp;
    const TokenScores of_token{scores + token * c.width, c.width};
    ChooseFor(c, of_token, own, c.blocks + row * c.places);
    if (c.entropy != nullptr) {
      const float entropy = NormalisedEntropy(of_token, own + 1);
      if (lane == 0) c.entropy[row] = entropy;
    }
    if (c.scores == nullptr) continue;
    for (int j = lane; j < c.scores_width; j += kWarp)
      c.scores[row * c.scores_width + j] = j <= own ? of_token[j] : 0.0f;
  }
}

// Shared memory without and with the part that grows with the tokens of a tile.
constexpr int64_t kSharedBudget = 110 * 1024;  // two tiles on a multiprocessor
constexpr int64_t kSharedLimit = 227 * 1024;

template <class T>
void Select(const SelectBlocksArgs& args, Stream stream) {
  const auto heads = static_cast<int>(args.q.dim(1)), groups = static_cast<int>(args.k_cmp.dim(1)),
             dk = static_cast<int>(args.q.dim(2));
  const AttentionSizes s{.heads = heads,
                         .groups = groups,
                         .rep = heads / groups,
                         .dk = dk,
                         .dv = 0,
                         .documents = static_cast<int>(args.cu_queries.dim(0)) - 1,
                         .queries = args.q.dim(0),
                         .keys = args.k_cmp.dim(0),
                         .cu_queries = args.cu_queries.As<int32_t>(),
                         .cu_keys = args.cu_keys.As<int32_t>(),
                         .scale = static_cast<float>(args.scale)};
  const auto pieces = static_cast<int>(args.select_block / args.stride),
             overlap = static_cast<int>(args.block / args.stride);
  const auto width = static_cast<int>(s.keys == 0 ? 0 : (s.keys + overlap - 2) / pieces + 1);
  const int64_t fixed = 2 * kTileRows * TileStride<T>(dk) * static_cast<int64_t>(sizeof(T)) +
                        kTileRows * kStride * 4,
                a_token = 4 * (kKeys + int64_t{width});
  const int64_t room = std::min(kSharedLimit, std::max(kSharedBudget, fixed + 48 * 1024)) - fixed;
  const int64_t tokens = std::clamp<int64_t>(room / a_token, 1, std::max(1, kTileRows / s.rep));
  if (dk > kMaxHeadWidth || fixed + tokens * a_token > kSharedLimit)
    Fail(__FILE__, __LINE__, "select_blocks: heads wider than 256 or too many blocks",
         cudaErrorInvalidValue);
  const Choice choice{
      .ranges = args.ranges.As<int32_t>(),
      .positions = args.positions.As<int32_t>(),
      .blocks = args.blocks.As<int32_t>(),
      .scores = args.scores.As<float>(),
      .entropy = args.entropy.As<float>(),
      .places = static_cast<int>(args.blocks.dim(2)),
      .num_init = static_cast<int>(args.num_init),
      .num_local = static_cast<int>(args.num_local),
      .select_block = static_cast<int>(args.select_block),
      .pieces = pieces,
      .overlap = overlap,
      .width = width,
      .scores_width = args.scores.data == nullptr ? 0 : static_cast<int>(args.scores.dim(2)),
      .tile_tokens = static_cast<int>(tokens)};
  const dim3 grid(static_cast<unsigned>(NumSlots(s.queries, 1, tokens, s.documents)),
                  static_cast<unsigned>(groups));
  LaunchGrid(SelectKernel<T>, grid, dim3(kSelectThreads), fixed + tokens * a_token, stream, s,
             choice, args.q.As<T>(), args.k_cmp.As<T>(), args.lse.As<float>(),
             Packable<T>(args.q.data, dk) && Packable<T>(args.k_cmp.data, dk));
}

}  // namespace

void SelectBlocks(const SelectBlocksArgs& args, Stream stream) {
  if (hopper::Supports(args, stream)) return hopper::SelectBlocks(args, stream);
  DispatchDeviceFloat(args.q.dtype,
                      [&](auto tag) { Select<typename decltype(tag)::type>(args, stream); });
}

}  // namespace lacuna::cuda
