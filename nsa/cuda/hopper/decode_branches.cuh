// One token's three branches on Hopper: a cluster of eight blocks a (sequence, group), one launch.
//
//   compressed   each block an eighth of the rows; scores of all heads stay in its shared memory
//   -- cluster: largest scores and sums -> the branch's log-sum-exps --
//   sums         probabilities summed over the heads, a column a thread
//   -- cluster: sums; blocks arrive and go on --
//   window       each block an eighth; its first tiles are fetched before the first meeting
//   choice       each block scores and takes its largest selection blocks (cluster_choice.cuh), and
//                fetches to L2 what every list has
//   -- cluster: what was taken, of which each block chooses; the window's states --
//   selected     each block an eighth of the list's tokens
//   -- cluster: its states --
//   output       outputs of the branches, weighted by their gates and shares, are summed in registers,
//                sent to the block that has their rows, and summed over the blocks there
//
// It may start before the kernel that appends the token's rows is done: what it reads before it waits
// for that one, tokens and addresses, is older. Meanwhile clusters that start at once fetch to L2 what
// they will read first; a row that is written afterwards is written there.
//
// Nothing but K and V is read from memory and nothing but o and the list is written. Three clusters'
// blocks are on a multiprocessor together (in the usual grid up to 65,536 tokens): one reads while
// others meet.
//
// Shared memory: the ring (in its place in the end: the other blocks' outputs of this block's rows);
// weights (in their place, between tiles: states [blocks][rows], and of all blocks [rows]); what warps
// tell each other; states [3][rows]; gates [rows][3]; the list; scores [rows][score_stride] (in their
// place: the columns' sums in row 0, behind it scores of selection blocks and what all blocks took).
// Columns of scores are swizzled by their row.
#pragma once

#include "core/cuda/decode_block.cuh"
#include "core/cuda/divide.cuh"
#include "core/cuda/hopper.cuh"
#include "nsa/cuda/hopper/cluster_choice.cuh"

namespace lacuna::cuda::hopper::decode_branches {

using namespace decode;  // NOLINT: the vocabulary of one token's attention

template <int kKeyWidth, int kValueWidth, int kTileStages, int kClusterBlocks = 8,
          int kBlocksTogether = 3>
struct Config : decode::Config<kKeyWidth, kValueWidth, kTileStages> {
  static constexpr int kBlocks = kClusterBlocks;     // of a cluster
  static constexpr int kTogether = kBlocksTogether;  // on a multiprocessor
};

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
  int score_stride;  // floats, a multiple of 32: at least the rows of a block
  int at_once;       // clusters that start together, as many as there is room for
  float factor;
  Divider per_block;  // by select_block
};

template <class Config>
using BlockChoice = select::ClusterChoice<Config::kBlocks, kTileThreads>;

template <class Config>
struct Memory {
  using Attention = BlockAttention<Config>;
  static constexpr int kWeights = Attention::kRingBytes;
  static constexpr int kBlockStates = kWeights;
  static constexpr int kRowStates = kBlockStates + Config::kBlocks * kRows * 8;
  static constexpr int kOfWarps =
      std::max(kWeights + Attention::kWeightBytes, kRowStates + kRows * 8);
  static constexpr int kStates = kOfWarps + Attention::kRowFloats * 4;
  static constexpr int kGates = kStates + 3 * kRows * 8;
  static constexpr int kList = kGates + 3 * kRows * 4;
  static_assert(kRows * Config::kDv * 4 <= Attention::kRingBytes);

  __host__ __device__ static int Scores(int places) { return kList + (places * 4 + 15) / 16 * 16; }
};

// Slots [begin, end) of a branch are a block's; all blocks but the last have `size`.
struct Share {
  int size, begin, end;
  __device__ Share(int count, int blocks, int rank) {
    size = ((count + kKeys - 1) / kKeys + blocks - 1) / blocks * kKeys;
    begin = min(rank * size, count);
    end = min(begin + size, count);
  }
};

template <class Config>
struct Decoder {
  enum Branch { kCmp, kWin, kSlc };  // in their order here
  static constexpr int kBlocks = Config::kBlocks;
  using Attention = BlockAttention<Config>;
  using BlockChoice = decode_branches::BlockChoice<Config>;

  const Params& p;
  char* const shared;
  const int group, rank, rep;
  const int token_row, position, sequence;
  const int compressed;
  Attention attention;
  float sum[Attention::kColumns / 8][4] = {};  // of the branches

  __device__ Decoder(const Params& params, const int4& token, char* memory)
      : p(params),
        shared(memory),
        group(static_cast<int>(blockIdx.y)),
        rank(static_cast<int>(ClusterRank())),
        rep(p.heads / p.groups),
        token_row(token.x),
        position(token.y),
        sequence(token.z),
        compressed(position + 1 < p.block ? 0 : (position + 1 - p.block) / p.stride + 1) {
    attention.ring = SharedAddress(shared);
    attention.weights = SharedAddress(shared + Memory<Config>::kWeights);
    attention.of_warps = At<float>(Memory<Config>::kOfWarps);
    attention.warp = static_cast<int>(threadIdx.x) / 32;
  }

  __device__ void Run() {
    const KeyRows rows = Rows(p.cmp, compressed);
    PrefetchFirst(rows);
    WaitForPrevious();
    BeginShare(rows);
    LoadQueries<Config>(p.q + FirstHead() * Config::kDk, rep, attention.q);
    if (const int i = static_cast<int>(threadIdx.x); i < 3 * rep)
      At<float>(Memory<Config>::kGates)[i] = p.gate[FirstHead() * 3 + i];
#pragma unroll 1  // the code of a tile exists once
    for (int branch = kCmp; branch <= kSlc; ++branch) {
      attention.Attend(p.factor, [&](int key, const float(&s)[8]) {
        if (branch == kCmp) Keep(key, s);
      });
      if (branch == kWin) PrefetchForced();
      attention.StoreStates(States(branch));
      if (branch == kWin) {
        WaitCluster();  // the sums are there
        Choice().Offer();
      }
      __syncwarp();
      ArriveCluster();
      if (branch == kCmp) BeginShare(Rows(p.win, min(p.window, position + 1)));
      WaitCluster();
      if (branch == kWin) {
        FinishChoice();
        BeginSelected();
      }
      AddBranch(branch);
      if (branch != kCmp) continue;
      SumHeads();
      __syncwarp();
      ArriveCluster();
    }
    StoreOutput();
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
    return At<float2>(Memory<Config>::kStates) + branch * kRows;
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
            .k_stride = p.groups * Config::kDk,
            .v_stride = p.groups * Config::kDv,
            .count = count,
            .block = p.select_block,
            .per_block = p.per_block};
  }

  // Starts with this block's slots.
  __device__ void BeginShare(const KeyRows& rows) {
    const Share share(rows.count, kBlocks, rank);
    attention.Begin(rows, share.begin, share.end);
  }
  // The first tiles of this block's slots, to L2.
  __device__ void PrefetchFirst(const KeyRows& rows) const {
    constexpr int kTiles = 2;
    if (blockIdx.y + gridDim.y * blockIdx.z >= static_cast<unsigned>(p.at_once)) return;
    const Share share(rows.count, kBlocks, rank);
    const int end = min(share.end, share.begin + kTiles * Attention::kBlockKeys);
    for (int row = share.begin + static_cast<int>(threadIdx.x); row < end; row += kTileThreads)
      PrefetchRow(rows, row);
  }
  __device__ static void PrefetchRow(const KeyRows& rows, int64_t row) {
    PrefetchBytes(rows.k + row * rows.k_stride, 2 * Config::kDk);
    PrefetchBytes(rows.v + row * rows.v_stride, 2 * Config::kDv);
  }
  // Of the list, whose last block is the token's own.
  __device__ void BeginSelected() {
    const int own = position / p.select_block,
              tokens = min(p.places - 1, own) * p.select_block + position % p.select_block + 1;
    KeyRows rows = Rows(p.slc, tokens);
    rows.list = List();
    BeginShare(rows);
  }

  // Keys and values of the blocks that are in any list, to L2, for memory has nothing else to do while
  // the others are chosen.
  __device__ void PrefetchForced() const {
    const int own = position / p.select_block, init = min(p.num_init, own + 1),
              local = max(init, own - p.num_local + 1), initial = init * p.select_block,
              skipped = (local - init) * p.select_block;
    const KeyRows rows = Rows(p.slc, position + 1 - skipped);
    for (int i = rank * kTileThreads + static_cast<int>(threadIdx.x); i < rows.count;
         i += kBlocks * kTileThreads) {
      PrefetchRow(rows, i < initial ? i : i + skipped);
    }
  }

  // Columns of eight rows' scores that threads set together are in different banks.
  __device__ static int Swizzle(int row, int column) {
    return column ^ row % 4 * 8;
  }
  // Scores of the block's keys from `key` on.
  __device__ void Keep(int key, const float (&s)[8]) const {
#pragma unroll
    for (int x = 0; x < 8; x += 2) {
      const int row = FragmentRow() + x % 4 / 2 * 8,
                column = Swizzle(row, key + x / 4 * 8 + FragmentColumn());
      *reinterpret_cast<float2*>(Scores() + row * p.score_stride + column) =
          make_float2(s[x] * p.factor, s[x + 1] * p.factor);
    }
  }

  // Adds this block's part of a branch, with the states that all blocks have stored. Leaves (shift,
  // 1 / sum) of the rows in shared memory, after a barrier.
  __device__ void AddBranch(int branch) {
    auto* const of_blocks = At<float2>(Memory<Config>::kBlockStates);
    auto* const of_rows = At<float2>(Memory<Config>::kRowStates);
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kBlocks * kRows; i += kTileThreads) {
      if (const int at = i + thread; at < kBlocks * kRows) {
        of_blocks[at] = LoadFromBlock8(SharedAddress(States(branch) + at % kRows),
                                       static_cast<uint32_t>(at / kRows));
      }
    }
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
      for (int n = 0; n < Attention::kColumns / 8; ++n) {
        sum[n][2 * r] += weight * attention.o[n][2 * r];
        sum[n][2 * r + 1] += weight * attention.o[n][2 * r + 1];
      }
    }
  }

  // Row 0 of the scores becomes the probabilities summed over the heads.
  __device__ void SumHeads() const {
    const Share share(compressed, kBlocks, rank);
    const float2* of_rows = At<float2>(Memory<Config>::kRowStates);
    float* const scores = Scores();
    for (int i = static_cast<int>(threadIdx.x); i < share.end - share.begin; i += kTileThreads) {
      float total = 0;
#pragma unroll 8
      for (int row = 0; row < rep; ++row)
        total += select::WithFloor(
            Exp2(scores[row * p.score_stride + Swizzle(row, i)] - of_rows[row].x) * of_rows[row].y);
      scores[i] = total;
    }
  }

  // Row 0 of the scores has the sums, the others are free by then.
  __device__ BlockChoice Choice() const {
    float* const scores = Scores() + p.score_stride;
    return {.contest = {p.places, p.num_init, p.num_local, position / p.select_block},
            .places = p.places,
            .pieces = p.pieces,
            .overlap = p.overlap,
            .compressed = compressed,
            .share = Share(compressed, kBlocks, 0).size,
            .rank = rank,
            .sums = Scores(),
            .scores = scores,
            .offers = reinterpret_cast<uint2*>(scores +
                                               BlockChoice::ScoresSize(p.score_stride, p.overlap)),
            .list = List()};
  }
  __device__ void FinishChoice() const {
    if (attention.warp == 0) {
      Choice().Finish();
      int32_t* const out = p.blocks + (int64_t{blockIdx.z} * p.groups + group) * p.places;
      if (rank == 0) {
        for (int i = static_cast<int>(threadIdx.x); i < p.places; i += 32) out[i] = List()[i];
      }
    }
    __syncthreads();
  }

  // A block has kRows / kBlocks of the rows. All are through with their rings.
  __device__ void StoreOutput() const {
    constexpr int kOwn = kRows / kBlocks, kPairs = kOwn * Config::kDv / 2;
    auto* const inbox = At<float2>(0);  // [blocks][kPairs]
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = FragmentRow() + 8 * r,
                first = rank * kPairs + (row % kOwn * Config::kDv +
                                         attention.warp * Attention::kColumns + FragmentColumn()) /
                                            2;
#pragma unroll
      for (int n = 0; n < Attention::kColumns / 8; ++n)
        StoreToBlock8(SharedAddress(inbox + first + 4 * n), static_cast<uint32_t>(row / kOwn),
                      make_float2(sum[n][2 * r], sum[n][2 * r + 1]));
    }
    SyncCluster();
    for (int i = thread; i < kPairs; i += kTileThreads) {
      float2 total = make_float2(0, 0);
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const float2 part = inbox[b * kPairs + i];
        total.x += part.x;
        total.y += part.y;
      }
      const int row = rank * kOwn + i / (Config::kDv / 2);
      if (row >= rep) continue;
      auto* const out = reinterpret_cast<uint32_t*>(p.o + FirstHead() * Config::kDv);
      out[rank * kPairs + i] = PackBFloat16(total.x, total.y);
    }
  }
};

template <class Config>
__global__ void LACUNA_CLUSTER(Config::kBlocks) __launch_bounds__(kTileThreads, Config::kTogether)
    BranchesKernel(const __grid_constant__ Params p) {
#if LACUNA_HOPPER_CODE
  Decoder<Config>(p, p.tokens[blockIdx.z], DynamicShared()).Run();
#endif
}

}  // namespace lacuna::cuda::hopper::decode_branches
