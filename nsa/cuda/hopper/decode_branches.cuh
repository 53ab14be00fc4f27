// One token's three branches on Hopper: a cluster of eight blocks a (sequence, group), one launch.
//
//   compressed   each block an eighth of the rows; scores of all heads stay in its shared memory
//   -- cluster: largest scores and sums -> the branch's log-sum-exps --
//   sums         probabilities summed over the heads, a column a thread
//   window       each block an eighth; its first tiles are fetched before the meeting
//   -- cluster: sums, and the window's states --
//   choice       block 0 gathers the sums, scores the blocks and chooses
//   -- cluster: the list --
//   selected     each block an eighth of the list's tokens
//   -- cluster: its states --
//   output       outputs of the branches, weighted by their gates and shares, are summed in registers,
//                then over warps, then over blocks, an eighth of the elements a block
//
// Nothing but K and V is read from memory and nothing but o and the list is written. Two clusters'
// blocks are on a multiprocessor together: one reads while the other meets.
//
// Shared memory: the warps' rings (in their place: sums of outputs); states [3][warps][rows] and
// [blocks][rows]; log-sum-exps [rows]; gates [rows][3]; the list; scores [rows][score_stride] (in
// their place: the columns' sums in row 0; in block 0 behind it all sums, then scores of blocks).
#pragma once

#include "core/cuda/decode_tiles.cuh"
#include "core/cuda/hopper.cuh"
#include "nsa/cuda/hopper/block_choice.cuh"

namespace lacuna::cuda::hopper::decode_branches {

using namespace decode;  // NOLINT: the vocabulary of one token's attention

inline constexpr int kBlocks = 8;  // of a cluster
static_assert(kBlocks * kRows == kTileThreads);

struct Params {
  const BFloat16* q;
  const float* gate;
  const int4* tokens;
  const int64_t* addresses;
  BFloat16* o;
  int32_t* blocks;
  int heads, groups, columns;
  int cmp, slc, win;  // columns of their keys, values behind them
  int block, stride, select_block, pieces, overlap, window;
  int places, num_init, num_local;
  int score_stride;  // floats; at least 16 tiles' share of a block, and 8
  float factor;
};

template <class Config>
struct Memory {
  static constexpr int kStates = Config::kRingBytes;
  static constexpr int kBlockStates = kStates + 3 * kWarps * kRows * 8;
  static constexpr int kRowStates = kBlockStates + kBlocks * kRows * 8;
  static constexpr int kGates = kRowStates + kRows * 8;
  static constexpr int kList = kGates + 3 * kRows * 4;
  // Outputs summed over the warps, [kRows][kDv], behind those that are not.
  static constexpr int kOutput = kWarps * kRows * Config::kSumStride * 4;
  static_assert(kOutput + kRows * Config::kDv * 4 <= Config::kRingBytes);

  __host__ __device__ static int Scores(int places) { return kList + (places * 4 + 15) / 16 * 16; }
};

// Tiles [begin, end) of a branch that are a block's.
struct Share {
  int size, begin, end;
  __device__ Share(int count, int rank) {
    const int tiles = (count + kKeys - 1) / kKeys;
    size = (tiles + kBlocks - 1) / kBlocks;
    begin = min(rank * size, tiles);
    end = min(begin + size, tiles);
  }
};

template <class Config>
struct Decoder {
  enum Branch { kCmp, kWin, kSlc };  // in their order here

  const Params& p;
  char* const shared;
  const int group, rank, warp, rep;
  const int token_row, position, sequence;
  const int compressed;
  WarpAttention<Config> attention;
  float sum[Config::kDv / 8][4] = {};  // of the branches

  __device__ Decoder(const Params& params, const int4& token, char* memory)
      : p(params),
        shared(memory),
        group(static_cast<int>(blockIdx.y)),
        rank(static_cast<int>(ClusterRank())),
        warp(static_cast<int>(threadIdx.x) / 32),
        rep(p.heads / p.groups),
        token_row(token.x),
        position(token.y),
        sequence(token.z),
        compressed(position + 1 < p.block ? 0 : (position + 1 - p.block) / p.stride + 1) {
    attention.ring = SharedAddress(shared) + static_cast<uint32_t>(warp * Config::kWarpBytes);
  }

  __device__ void Run() {
    BeginShare(Rows(p.cmp, compressed));
    attention.LoadQueries(p.q + FirstHead() * Config::kDk, rep);
    if (const int i = static_cast<int>(threadIdx.x); i < 3 * rep)
      At<float>(Memory<Config>::kGates)[i] = p.gate[FirstHead() * 3 + i];
#pragma unroll 1  // the code of a tile exists once
    for (int branch = kCmp; branch <= kSlc; ++branch) {
      attention.Attend(p.factor, [&](int tile, const float(&s)[8]) {
        if (branch == kCmp) Keep(tile - (attention.first - warp), s);
      });
      Publish(branch);
      if (branch == kCmp) BeginShare(Rows(p.win, min(p.window, position + 1)));
      SyncCluster();
      AddBranch(branch);
      if (branch == kCmp) SumHeads(Share(compressed, rank));
      if (branch != kWin) continue;
      if (rank == 0) ChooseBlocks(Share(compressed, rank).size * kKeys);
      SyncCluster();
      BeginSelected(FetchList());
    }
    StoreOutput();
    SyncCluster();  // others read this block's shared memory until here
  }

 private:
  template <class T>
  __device__ T* At(int offset) const {
    return reinterpret_cast<T*>(shared + offset);
  }
  __device__ int32_t* List() const {
    return At<int32_t>(Memory<Config>::kList);
  }
  __device__ float* Scores() const {
    return At<float>(Memory<Config>::Scores(p.places));
  }
  __device__ float2* States(int branch) const {
    return At<float2>(Memory<Config>::kStates) + branch * kWarps * kRows;
  }
  __device__ int64_t FirstHead() const {
    return int64_t{token_row} * p.heads + group * rep;
  }

  __device__ KeyRows Rows(int column, int count) const {
    const int64_t* caches = p.addresses + sequence * int64_t{p.columns} + column;
    const auto base = [&](int i, int width) {
      return reinterpret_cast<const BFloat16*>(caches[i]) + group * width;
    };
    return {.k = base(0, Config::kDk),
            .v = base(1, Config::kDv),
            .k_stride = int64_t{p.groups} * Config::kDk,
            .v_stride = int64_t{p.groups} * Config::kDv,
            .count = count};
  }

  // Starts with this block's tiles.
  __device__ void BeginShare(const KeyRows& rows) {
    const Share share(rows.count, rank);
    attention.Begin(rows, share.begin, share.end, warp);
  }
  // Of the list, whose last block is the token's own.
  __device__ void BeginSelected(int chosen) {
    KeyRows rows = Rows(p.slc, (chosen - 1) * p.select_block + position % p.select_block + 1);
    rows.list = List();
    rows.block = p.select_block;
    BeginShare(rows);
  }

  // The scores of a tile, the block's `tile`th.
  __device__ void Keep(int tile, const float (&s)[8]) const {
#pragma unroll
    for (int x = 0; x < 8; ++x) {
      Scores()[(FragmentRow() + x % 4 / 2 * 8) * p.score_stride + tile * kKeys + x / 4 * 8 +
               FragmentColumn() + x % 2] = s[x] * p.factor;
    }
  }

  __device__ void Publish(int branch) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float2 state = attention.RowState(r);
      if (threadIdx.x % 4 == 0) States(branch)[warp * kRows + FragmentRow() + 8 * r] = state;
    }
  }
  // Adds this warp's part of a branch, with the states that all blocks have published. Leaves (shift,
  // 1 / sum) of the rows in shared memory, after a barrier.
  __device__ void AddBranch(int branch) {
    auto* const of_blocks = At<float2>(Memory<Config>::kBlockStates);
    auto* const of_rows = At<float2>(Memory<Config>::kRowStates);
    const int thread = static_cast<int>(threadIdx.x);
    float2 parts[kWarps];
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      parts[w] = LoadFromBlock8(SharedAddress(States(branch) + w * kRows + thread % kRows),
                                static_cast<uint32_t>(thread / kRows));
    }
    of_blocks[thread] = MergeStates(kWarps, [&](int w) { return parts[w]; });
    __syncthreads();
    if (thread < kRows) {
      const float2 all = MergeStates(kBlocks, [&](int b) { return of_blocks[b * kRows + thread]; });
      of_rows[thread] = make_float2(all.x, all.y == 0 ? 0.0f : 1 / all.y);
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = FragmentRow() + 8 * r;
      const float2 all = of_rows[row];
      const float own = attention.softmax.shift[r] == -INFINITY && all.x == -INFINITY
                            ? 1.0f
                            : Exp2(attention.softmax.shift[r] - all.x);
      const int c = branch == kCmp ? 0 : branch == kSlc ? 1 : 2;  // of the gates
      const float gate = row < rep ? At<float>(Memory<Config>::kGates)[row * 3 + c] : 0.0f;
      const float weight = own * all.y * gate;
#pragma unroll
      for (int n = 0; n < Config::kDv / 8; ++n) {
        sum[n][2 * r] += weight * attention.o[n][2 * r];
        sum[n][2 * r + 1] += weight * attention.o[n][2 * r + 1];
      }
    }
  }

  // Row 0 of the scores becomes the probabilities summed over the heads.
  __device__ void SumHeads(const Share& share) const {
    const int columns = (share.end - share.begin) * kKeys;
    const float2* of_rows = At<float2>(Memory<Config>::kRowStates);
    float* const scores = Scores();
    for (int i = static_cast<int>(threadIdx.x); i < columns; i += kTileThreads) {
      float total = 0;
      for (int row = 0; row < rep; ++row)
        total += select::WithFloor(Exp2(scores[row * p.score_stride + i] - of_rows[row].x) *
                                   of_rows[row].y);
      scores[i] = total;
    }
  }

  // In block 0. A block has the sums of `columns` rows.
  __device__ void ChooseBlocks(int columns) const {
    constexpr int kTogether = 8;
    float* const sums = Scores() + p.score_stride;
    const uint32_t from = SharedAddress(Scores());
    const int packs = (compressed + 3) / 4;
    for (int first = static_cast<int>(threadIdx.x); first < packs;
         first += kTogether * kTileThreads) {
      uint4 pack[kTogether];
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        const int i = 4 * min(first + n * kTileThreads, packs - 1);
        pack[n] = LoadFromBlock16(from + static_cast<uint32_t>(i % columns * 4),
                                  static_cast<uint32_t>(i / columns));
      }
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        const int i = first + n * kTileThreads;
        if (i < packs) *reinterpret_cast<uint4*>(sums + 4 * i) = pack[n];
      }
    }
    __syncthreads();
    const int reached = compressed == 0 ? 0 : (compressed + p.overlap - 2) / p.pieces + 1;
    float* const of_blocks = sums + 4 * packs;
    for (int j = static_cast<int>(threadIdx.x); j < reached; j += kTileThreads) {
      const int begin = j * p.pieces;
      float score = 0;
      for (int row = max(0, begin - p.overlap + 1); row < min(compressed, begin + p.pieces);
           ++row) {
        const int count = min(p.overlap, begin + p.pieces - row) - max(0, begin - row);
        score += static_cast<float>(count) * sums[row];
      }
      of_blocks[j] = score;
    }
    __syncthreads();
    if (warp > 0) return;
    const select::Choice choice{.blocks = nullptr,
                                .scores = nullptr,
                                .entropy = nullptr,
                                .places = p.places,
                                .num_init = p.num_init,
                                .num_local = p.num_local,
                                .scores_width = 0};
    select::Choose<32>(choice, select::TokenScores{of_blocks, reached}, position / p.select_block,
                       List());
    __syncwarp();
    int32_t* const out = p.blocks + (int64_t{blockIdx.z} * p.groups + group) * p.places;
    for (int i = static_cast<int>(threadIdx.x); i < p.places; i += 32) out[i] = List()[i];
    __syncwarp();
  }

  // Block 0's list -> how many blocks it has.
  __device__ int FetchList() const {
    if (rank > 0) {
      for (int i = static_cast<int>(threadIdx.x); i < p.places; i += kTileThreads)
        List()[i] = static_cast<int32_t>(LoadFromBlock4(SharedAddress(List() + i), 0));
    }
    __syncthreads();
    return min(p.places, position / p.select_block + 1);
  }

  __device__ void StoreOutput() const {
    constexpr int kPairs = kRows * Config::kDv / 2;
    auto* const sums = At<float>(0);
    auto* const output = At<float2>(Memory<Config>::kOutput);
    const float one[2] = {1, 1};
    StoreWeighted<Config>(sum, one, sums, warp);
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kPairs; i += kTileThreads)
      output[i] = SumOverWarps<Config>(sums, i / (Config::kDv / 2), i % (Config::kDv / 2) * 2);
    SyncCluster();
    const int end = (rank + 1) * kPairs / kBlocks;
    for (int i = rank * kPairs / kBlocks + static_cast<int>(threadIdx.x); i < end;
         i += kTileThreads) {
      float2 parts[kBlocks];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b)
        parts[b] = LoadFromBlock8(SharedAddress(output + i), static_cast<uint32_t>(b));
      float2 total = make_float2(0, 0);
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        total.x += parts[b].x;
        total.y += parts[b].y;
      }
      const int row = i / (Config::kDv / 2);
      if (row >= rep) continue;
      auto* const out = reinterpret_cast<uint32_t*>(p.o + FirstHead() * Config::kDv) + i;
      *out = PackBFloat16(total.x, total.y);
    }
    __syncwarp();
  }
};

template <class Config>
__global__ void LACUNA_CLUSTER(kBlocks) __launch_bounds__(kTileThreads, 2)
    BranchesKernel(const __grid_constant__ Params p) {
#if LACUNA_HOPPER_CODE
  Decoder<Config>(p, p.tokens[blockIdx.z], DynamicShared()).Run();
#endif
}

}  // namespace lacuna::cuda::hopper::decode_branches
