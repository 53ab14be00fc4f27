// Scores and choice of the selection blocks on Hopper (sm_90a); no score matrix in memory.
//
//   block      three warpgroups compute, 64 rows (token, head of the group) each; one thread brings
//              tiles. As many blocks as multiprocessors; each takes tile after tile.
//   products   S = Q K_cmp^T, Q in registers, kKeys keys at a time. While those of the next keys are
//              under way: P = exp2(factor S - log2e lse) and its sums over 16 rows (8, where a group
//              has 8 heads), by exchanges of halves between the lanes that hold the same columns.
//   sums       a ring of three key tiles in shared memory, so that a selection block finds the
//              compressed rows that begin before its own key tile; zeros stand before the first.
//   scores     [tokens][blocks], each written once when its last key tile is summed; a thread a
//              (token, block), rows ascending. In shared memory, or in a workspace where too long.
//   choice     a warp a token, while the other warpgroups compute.
//
// A warp's 16 rows are of one token (two, where groups have 8 heads), and it does everything for
// that token alone; larger groups meet at the warpgroup's barrier. Every sum is in an order that does
// not depend on what else is in the tile.
//
// Shared memory: Q [3][Dk / 64][64 x 64], K [kStages][Dk / 64][kKeys x 64], swizzled by the copy
// engine; lse [3][64]; the warpgroups' plans; barriers; sums [tokens or warps][3 key tiles]; scores.
#pragma once

#include "core/cuda/fast_math.cuh"
#include "core/cuda/wgmma_registers.cuh"
#include "nsa/cuda/hopper/select_work.cuh"

namespace lacuna::cuda::hopper::select {

// Sums over the eight lanes that differ in lane / 4, of values that each has: halves are exchanged,
// the lane with the bit keeps the upper one. kCount / 8 are left, in front.
template <int kBit, int kCount, int kAll>
__device__ __forceinline__ void SumOverRows(float (&v)[kAll]) {
  const bool upper = (threadIdx.x & kBit) != 0;
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    const float keep = upper ? v[i + kCount / 2] : v[i], give = upper ? v[i] : v[i + kCount / 2];
    v[i] = keep + __shfl_xor_sync(0xFFFFFFFFu, give, kBit);
  }
  if constexpr (kBit > 4) SumOverRows<kBit / 2, kCount / 2>(v);
}

// What is known of a call when the kernel is compiled; -1: nothing.
template <int kLogHeads = -1, int kBlockPieces = -1, int kBlockOverlap = -1>
struct Shape {
  static constexpr int kRepShift = kLogHeads, kPieces = kBlockPieces, kOverlap = kBlockOverlap;
  static constexpr bool kKnown = kPieces > 0;  // then pieces fill a key tile
};

template <class Config, class Shape>
struct Consumer {
  static constexpr int kKeys = Config::kKeys;
  using Scores = float[kKeys / 2];
  using Queries = uint32_t[Config::kSteps][4];

  const Params& p;
  const Memory<Config> memory;
  const WorkTile* plan;
  const float* lse;
  float* sums;               // [rows of sums][ring]
  float* scores;             // [tokens][score_stride]
  const uint32_t warpgroup;  // uniform
  RingPlace<Config::kStages> k = {};
  uint32_t q_round = 0;

  __device__ void Run() {
    while (true) {
      WaitBarrier(memory.QFull(warpgroup), q_round);
      WorkTile tile = *plan;
      tile.tokens = Uniform(tile.tokens);
      tile.key_tiles = Uniform(tile.key_tiles);
      tile.whole_end = Uniform(tile.whole_end);
      if (tile.tokens == 0) return;
      Score(tile);
      q_round ^= 1;
    }
  }

 private:
  // Who works on the same tokens: a warp or the warpgroup. Tokens are counted within the warpgroup.
  struct Team {
    int rank, size, first, tokens;
  };

  __device__ static int Warp() { return static_cast<int>(threadIdx.x) % kWarpgroup / kWarp; }
  __device__ static int Lane() { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ int Shift() const { return Shape::kKnown ? Shape::kRepShift : p.work.rep_shift; }
  __device__ int Pieces() const { return Shape::kKnown ? Shape::kPieces : p.pieces; }
  __device__ int Overlap() const { return Shape::kKnown ? Shape::kOverlap : p.overlap; }
  __device__ int TileBlocks() const {
    return Shape::kKnown ? kKeys / Shape::kPieces : p.tile_blocks;
  }
  __device__ int TileKeys() const { return Shape::kKnown ? TileBlocks() * Pieces() : p.keys.keys; }
  __device__ bool Alone() const { return Shift() <= 4; }  // a warp with its tokens
  __device__ void SyncTeam() const {
    if (Alone()) {
      __syncwarp();
    } else {
      SyncNamed(1 + static_cast<int>(warpgroup), kWarpgroup);
    }
  }
  __device__ Team MakeTeam() const {
    Team team = {};
    if (Alone()) {
      team.tokens = 16 >> Shift();
      team.first = Warp() * team.tokens;
      team.rank = Lane();
      team.size = kWarp;
    } else {
      team.tokens = kWarpgroupRows >> Shift();
      team.rank = static_cast<int>(threadIdx.x) % kWarpgroup;
      team.size = kWarpgroup;
    }
    return team;
  }
  // Rows of sums of a token: its warps'.
  __device__ int SumRows() const { return Alone() ? 1 : 1 << (Shift() - 4); }
  __device__ int Ring() const { return kSumTiles * TileKeys(); }

  __device__ static void Release(uint32_t barrier) {
    if (threadIdx.x % kWarp == 0) ArriveAt(barrier, 0);
  }
  __device__ __forceinline__ void LoadQueries(Queries& q) const {
    const int lane = Lane(), row = Warp() * 16 + lane % 16;
    const uint32_t at = memory.Q(warpgroup) + row * 128;
#pragma unroll
    for (int step = 0; step < Config::kSteps; ++step) {
      const uint32_t piece = (step % 4 * 2 + lane / 16) ^ (row % 8);
      LoadMatrices<false>(q[step], at + step / 4 * Config::kQBox + piece * 16);
    }
  }
  __device__ __forceinline__ void StartScores(Scores& s, const Queries& q) {
    RandomDelay(p.delays, 2 * k.stage + k.round);
    WaitBarrier(memory.KFull(k.stage), k.round);
    // Only the lower half changes from step to step.
    const uint64_t b = DescribeContiguous(memory.K(k.stage));
    const uint32_t low = static_cast<uint32_t>(b), high = static_cast<uint32_t>(b >> 32);
    BeginProducts();
#pragma unroll
    for (int step = 0; step < Config::kSteps; ++step) {
      const uint32_t at = low + (step / 4 * Config::kKeyBox >> 4) + step % 4 * kDepthStep<true>;
      const uint64_t bt = uint64_t{high} << 32 | at;
      if (step == 0) {
        RegisterProduct<kKeys>::template Set<true>(s, q[step], bt);
      } else {
        RegisterProduct<kKeys>::template Add<true>(s, q[step], bt);
      }
    }
    CommitProducts();
  }

  // The rest of a thread's tile that does not change from key tile to key tile.
  struct Rows {
    float minus[2];  // -log2e lse
    int end[2];      // visible keys, counted from the thread's first column
  };

  __device__ Rows LoadRows(const WorkTile& tile) const {
    Rows rows;
    const int row = Warp() * 16 + FragmentRow(),
              first = static_cast<int>(warpgroup) * (kWarpgroupRows >> Shift());
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int token = first + ((row + 8 * r) >> Shift());
      rows.minus[r] = -kLog2E * lse[row + 8 * r];
      rows.end[r] = 0;
      if (token < tile.tokens) {
        rows.end[r] =
            p.ranges[2 * int64_t{tile.first_token + token} + 1] - tile.first_key - FragmentColumn();
      }
    }
    return rows;
  }

  __device__ __forceinline__ void Score(const WorkTile& tile) {
    Queries q;
    LoadQueries(q);
    const Rows rows = LoadRows(tile);
    const Team team = MakeTeam();
    const int position = LoadPositions(tile, team);
    // The copy engine writes there next: what was read has to be in registers, not only asked for,
    // which an arrival alone does not wait for.
    FenceAsyncProxy();
    __syncwarp();
    Release(memory.QEmpty(warpgroup));
    for (int row = 0; row < team.tokens * SumRows(); ++row) {
      float* const end = sums + (team.first * SumRows() + row + 1) * Ring();
      for (int i = team.rank; i < Overlap() - 1; i += team.size) end[-1 - i] = 0;
    }
    if (tile.key_tiles > 0) {
      Scores s, x;
      int slot = 0;
      StartScores(s, q);
#pragma unroll 1
      for (int i = 0; i + 1 < tile.key_tiles; ++i) {
        TakeScores(s, x, rows);
        StartScores(s, q);
        Sum(x, rows, team, tile, i, slot);
      }
      TakeScores(s, x, rows);
      Sum(x, rows, team, tile, tile.key_tiles - 1, slot);
    }
    SyncTeam();
    ChooseBlocks(tile, team, position);
  }

  // Waits for the products and makes logarithms of probabilities of them; the sums are free then.
  __device__ __forceinline__ void TakeScores(Scores& s, Scores& x, const Rows& rows) {
    WaitProducts<0>();
    PinSums(s);
    Release(memory.KEmpty(k.stage));
    k.Next();
#pragma unroll
    for (int j = 0; j < kKeys / 2; ++j) x[j] = fmaf(s[j], p.factor, rows.minus[j / 2 % 2]);
    PinSums(x);
  }
  // Key tile i, whose sums go to `slot` of the ring.
  __device__ __forceinline__ void Sum(Scores& x, const Rows& rows, const Team& team,
                                      const WorkTile& tile, int i, int& slot) const {
#pragma unroll
    for (int j = 0; j < kKeys / 2; ++j) x[j] = Exp2(x[j]);  // 0 below kLeastProbability
    if (i >= tile.whole_end) {
      const int first = i * TileKeys();
#pragma unroll
      for (int j = 0; j < kKeys / 2; ++j)
        x[j] = j / 4 * 8 + j % 2 < rows.end[j / 2 % 2] - first ? x[j] : 0.0f;
    }
    StoreSums(x, slot * TileKeys());
    SyncTeam();
    AddBlocks(team, i, slot);
    slot = slot == kSumTiles - 1 ? 0 : slot + 1;
  }

  // Sums over the warp's rows of a token go to the ring, from `at` on.
  __device__ __forceinline__ void StoreSums(const Scores& s, int at) const {
    float v[kKeys / 4];
    if (Shift() == 3) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int j = 0; j < kKeys / 4; ++j) v[j] = s[j / 2 * 4 + 2 * r + j % 2];
        SumOverRows<16, kKeys / 4>(v);
        StoreRow(v, sums + (2 * Warp() + r) * Ring() + at);
      }
    } else {
#pragma unroll
      for (int j = 0; j < kKeys / 4; ++j) v[j] = s[j / 2 * 4 + j % 2] + s[j / 2 * 4 + 2 + j % 2];
      SumOverRows<16, kKeys / 4>(v);
      StoreRow(v, sums + Warp() * Ring() + at);
    }
  }
  __device__ __forceinline__ void StoreRow(const float (&v)[kKeys / 4], float* row) const {
    constexpr int kLeft = kKeys / 64;
#pragma unroll
    for (int i = 0; i < kLeft; ++i) {
      const int column = 8 * (kLeft * FragmentRow() + i) + FragmentColumn();
      if (Shape::kKnown || column < TileKeys()) row[column] = v[2 * i];
      if (Shape::kKnown || column + 1 < TileKeys()) row[column + 1] = v[2 * i + 1];
    }
  }

  // Scores of the blocks of key tile i, whose sums are in `slot` of the ring.
  __device__ __forceinline__ void AddBlocks(const Team& team, int i, int slot) const {
    const int cells = team.tokens * TileBlocks();
    if constexpr (Shape::kKnown) {
      static_assert(kKeys % Shape::kPieces == 0 &&
                    (16 >> Shape::kRepShift) * (kKeys / Shape::kPieces) <= kWarp);
      if (team.rank < cells) AddCell(team, team.rank, i, slot);
    } else {
#pragma unroll 1
      for (int cell = team.rank; cell < cells; cell += team.size) AddCell(team, cell, i, slot);
    }
  }
  __device__ __forceinline__ void AddCell(const Team& team, int cell, int i, int slot) const {
    const int token = team.first + cell / TileBlocks(), block = cell % TileBlocks();
    constexpr int kUnroll = Shape::kKnown ? Shape::kPieces + Shape::kOverlap - 1 : 1;
    const int overlap = Overlap(), span = Pieces() + overlap - 1, rows = SumRows(), ring = Ring();
    const float* const of_token = sums + token * rows * ring;
    const int begin = slot * TileKeys() + block * Pieces() - (overlap - 1);
    float score = 0;
#pragma unroll kUnroll
    for (int m = 0; m < span; ++m) {
      const int at = m < overlap - 1 && begin + m < 0 ? begin + m + ring : begin + m;
      float sum = of_token[at];
#pragma unroll 1
      for (int row = 1; row < rows; ++row) sum += of_token[row * ring + at];
      score = fmaf(static_cast<float>(min(min(m + 1, overlap), span - m)), sum, score);
    }
    scores[token * p.score_stride + i * TileBlocks() + block] = score;
  }

  // The tokens that a warp chooses for.
  struct Own {
    int first, count;
  };
  __device__ Own OwnTokens(const Team& team) const {
    if (Alone()) return {team.first, team.tokens};
    return {Warp(), Warp() < team.tokens ? 1 : 0};
  }
  __device__ int FirstToken(const Own& own) const {
    return static_cast<int>(warpgroup) * (kWarpgroupRows >> Shift()) + own.first;
  }
  // Lane i: the position of the warp's i-th token.
  __device__ int LoadPositions(const WorkTile& tile, const Team& team) const {
    const Own own = OwnTokens(team);
    const int token = FirstToken(own) + Lane();
    return Lane() < own.count && token < tile.tokens
               ? p.positions[int64_t{tile.first_token} + token]
               : 0;
  }
  __device__ __forceinline__ void ChooseBlocks(const WorkTile& tile, const Team& team,
                                               int position) const {
    const Own own = OwnTokens(team);
#pragma unroll 1
    for (int i = 0; i < own.count; ++i) {
      const int token = FirstToken(own) + i,
                block = __shfl_sync(0xFFFFFFFFu, position, i) / p.select_block;
      if (token >= tile.tokens) return;
      const TokenScores of_token{scores + int64_t{own.first + i} * p.score_stride,
                                 tile.key_tiles * TileBlocks()};
      WriteChoice(p.choice, of_token, block,
                  (int64_t{tile.first_token} + token) * p.work.sizes.groups + tile.group);
    }
    __syncwarp();
  }
};

template <class Config, class Shape>
__global__ void __launch_bounds__(kThreads, 1) SelectKernel(const __grid_constant__ Params p) {
#if LACUNA_HOPPER_CODE
  char* const dynamic = DynamicShared();
  const uint32_t start = SharedAddress(dynamic);
  using Places = Memory<Config>;
  const Places memory = {(start + 1023) / 1024 * 1024};
  char* const base = dynamic + (memory.base - start);
  WorkTile* const plans = reinterpret_cast<WorkTile*>(base + Places::kPlans);
  const uint32_t warpgroup = Uniform(threadIdx.x / kWarpgroup);
  if (threadIdx.x == 0) memory.Init();
  __syncthreads();
  if (warpgroup == kConsumers) {
    GiveRegisters<kProducerRegisters>();
    if (threadIdx.x == kConsumers * kWarpgroup) Producer<Config>{p, memory, plans}.Run();
  } else {
    TakeRegisters<kConsumerRegisters>();
    const int tokens = kWarpgroupRows >> p.work.rep_shift, rows = max(tokens, 4),
              ring = kSumTiles * p.keys.keys, w = static_cast<int>(warpgroup);
    float* const sums = reinterpret_cast<float*>(base + Places::kSums);
    float* const scores = p.workspace == nullptr ? sums + kConsumers * rows * ring
                                                 : p.workspace + int64_t{blockIdx.x} * kConsumers *
                                                                     tokens * p.score_stride;
    Consumer<Config, Shape>{
        p,
        memory,
        plans + w,
        reinterpret_cast<const float*>(base + Places::kLse) + w * kWarpgroupRows,
        sums + w * rows * ring,
        scores + int64_t{w} * tokens * p.score_stride,
        warpgroup}
        .Run();
  }
#endif
}

}  // namespace lacuna::cuda::hopper::select
