// The kernels of one token's attention without a card, against sums in f64: full attention in splits,
// and NSA's branches in a cluster.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "core/ops/cuda/decode_attention.cuh"
#include "nsa/cuda/hopper/decode_branches.cuh"
#include "tests/emulation/card.h"

namespace lacuna::cuda {
namespace {

using Bits = std::vector<BFloat16>;
using Row = std::vector<double>;

struct Grid {
  int block, stride, select_block, places, num_init, num_local, window;
};
constexpr Grid kPaper = {32, 16, 64, 16, 1, 2, 512};
constexpr Grid kSmall = {8, 4, 16, 5, 1, 2, 20};

template <int kDk, int kDv, int kStages>
using Branches = hopper::decode_branches::Config<kDk, kDv, kStages>;

template <class Config>
class Batch {
 public:
  static constexpr int kDk = Config::kDk, kDv = Config::kDv;

  Batch(int heads, int groups, const std::vector<int>& lengths, const Grid& grid, unsigned seed,
        float key_scale = 1)
      : heads_(heads), groups_(groups), rep_(heads / groups), lengths_(lengths), grid_(grid) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](int64_t count, float scale) {
      Bits bits;
      for (int64_t i = 0; i < count; ++i) bits.emplace_back(scale * normal(random));
      return bits;
    };
    const auto batch = static_cast<int>(lengths.size());
    q_ = fill(int64_t{batch} * heads * kDk, 2);
    for (int i = 0; i < batch * heads * 3; ++i)
      gate_.push_back(1 / (1 + std::exp(-normal(random))));
    for (int b = 0; b < batch; ++b) {
      const int rows[] = {lengths[b], Compressed(b), grid.window};
      for (const int n : rows) {
        caches_.push_back(fill(int64_t{n} * groups * kDk, n == lengths[b] ? 1 : key_scale));
        caches_.push_back(fill(int64_t{n} * groups * kDv, 1));
      }
      tokens_.push_back({batch - 1 - b, lengths[b] - 1, b, 0});  // rows of q from the last
    }
    for (Bits& cache : caches_) addresses_.push_back(reinterpret_cast<int64_t>(cache.data()));
    seed_ = random();
  }

  int Compressed(int b) const {
    return lengths_[b] < grid_.block ? 0 : (lengths_[b] - grid_.block) / grid_.stride + 1;
  }

  // Keys `at` of cache 2 branch: attention of a head -> probabilities; adds weight o to `out`.
  Row Attend(int b, int branch, int head, const std::vector<int>& at, double weight,
             Row* out) const {
    const Bits &k = caches_[6 * b + 2 * branch], &v = caches_[6 * b + 2 * branch + 1];
    const int group = head / rep_;
    const BFloat16* q = q_.data() + (int64_t{tokens_[b].x} * heads_ + head) * kDk;
    Row p;
    double top = -INFINITY, total = 0;
    for (const int row : at) {
      double s = 0;
      for (int c = 0; c < kDk; ++c)
        s += double{float(q[c])} * float(k[(int64_t{row} * groups_ + group) * kDk + c]);
      p.push_back(s / std::sqrt(kDk));
      top = std::max(top, p.back());
    }
    for (double& x : p) total += x = std::exp(x - top);
    for (size_t i = 0; i < p.size(); ++i) {
      p[i] /= total;
      for (int c = 0; c < kDv; ++c)
        (*out)[c] += weight * p[i] * float(v[(int64_t{at[i]} * groups_ + group) * kDv + c]);
    }
    return p;
  }

  // The kernels on all sequences, or on one alone.
  void RunFull(Bits* o, int only = -1) {
    const std::vector<int4> tokens = Tokens(only);
    int most = 1;
    for (const int4& token : tokens) most = std::max(most, decode::NumSplits(token.y + 1));
    const size_t rows = tokens.size() * heads_ * most;
    o->assign(lengths_.size() * heads_ * kDv, BFloat16(NAN));
    std::vector<float> partial(rows * kDv, NAN);
    std::vector<float2> states(rows, float2{NAN, NAN});
    const decode::Params p = {.q = q_.data(),
                              .o = o->data(),
                              .tokens = tokens.data(),
                              .addresses = addresses_.data(),
                              .columns = 6,
                              .column = 0,
                              .heads = heads_,
                              .groups = groups_,
                              .dk = kDk,
                              .dv = kDv,
                              .splits = most,
                              .factor = kLog2E / std::sqrt(float{kDk}),
                              .partial = partial.data(),
                              .states = states.data()};
    const auto batch = static_cast<unsigned>(tokens.size());
    emulation::Run({static_cast<unsigned>(most), 1, decode::kTileThreads,
                    static_cast<unsigned>(groups_), batch},
                   seed_, [&] { decode::SplitKernel<Config>(p); });
    emulation::Run({static_cast<unsigned>(heads_), 1, kDv, batch}, seed_,
                   [&] { decode::MergeKernel(p); });
  }

  void CheckFull() {
    Bits o;
    RunFull(&o);
    const int batch = static_cast<int>(lengths_.size());
    for (int b = 0; b < batch; ++b) {
      std::vector<int> all(static_cast<size_t>(lengths_[b]));
      std::iota(all.begin(), all.end(), 0);
      for (int head = 0; head < heads_; ++head) {
        Row expected(kDv);
        Attend(b, 0, head, all, 1, &expected);
        CheckRow(o, b, head, expected);
      }
    }
  }

  void RunBranches(Bits* o, int only = -1) {
    const std::vector<int4> tokens = Tokens(only);
    int longest = 0;
    for (const int4& token : tokens) longest = std::max(longest, token.y + 1);
    const int rows = longest < grid_.block ? 0 : (longest - grid_.block) / grid_.stride + 1;
    o->assign(lengths_.size() * heads_ * kDv, BFloat16(NAN));
    lists_.assign(tokens.size() * groups_ * grid_.places, -7);
    const hopper::decode_branches::Params p = {
        .q = q_.data(),
        .gate = gate_.data(),
        .tokens = tokens.data(),
        .addresses = addresses_.data(),
        .o = o->data(),
        .blocks = lists_.data(),
        .heads = heads_,
        .groups = groups_,
        .columns = 6,
        .cmp = 2,
        .slc = 0,
        .win = 4,
        .block = grid_.block,
        .stride = grid_.stride,
        .select_block = grid_.select_block,
        .pieces = grid_.select_block / grid_.stride,
        .overlap = grid_.block / grid_.stride,
        .window = grid_.window,
        .places = grid_.places,
        .num_init = grid_.num_init,
        .num_local = grid_.num_local,
        .score_stride = (rows + 255) / 256 * 32,
        .at_once = groups_ + 1,
        .factor = kLog2E / std::sqrt(float{kDk}),
        .per_block = Divider(static_cast<uint32_t>(grid_.select_block))};
    emulation::Run({Config::kBlocks, Config::kBlocks, decode::kTileThreads,
                    static_cast<unsigned>(groups_), static_cast<unsigned>(tokens.size())},
                   seed_, [&] { hopper::decode_branches::BranchesKernel<Config>(p); });
  }

  void CheckBranches() {
    Bits o;
    RunBranches(&o);
    for (int b = 0; b < static_cast<int>(lengths_.size()); ++b) {
      for (int group = 0; group < groups_; ++group) CheckGroup(o, b, group);
    }
  }
  const std::vector<int32_t>& lists() const { return lists_; }
  bool SameRow(const Bits& x, const Bits& y, int b) const {
    const int64_t size = heads_ * kDv, at = tokens_[b].x * size;
    return std::equal(x.begin() + at, x.begin() + at + size, y.begin() + at,
                      [](BFloat16 u, BFloat16 v) { return u.bits == v.bits; });
  }

 private:
  std::vector<int4> Tokens(int only) const {
    return only < 0 ? tokens_ : std::vector<int4>{tokens_[only]};
  }
  void CheckGroup(const Bits& o, int b, int group) {
    const int compressed = Compressed(b), own = (lengths_[b] - 1) / grid_.select_block,
              pieces = grid_.select_block / grid_.stride, overlap = grid_.block / grid_.stride;
    std::vector<int> all(static_cast<size_t>(compressed)), window, listed;
    std::iota(all.begin(), all.end(), 0);
    window.resize(static_cast<size_t>(std::min(grid_.window, lengths_[b])));
    std::iota(window.begin(), window.end(), 0);
    const int32_t* list = lists_.data() + (b * groups_ + group) * grid_.places;
    for (int i = 0; i < grid_.places && list[i] >= 0; ++i) {
      for (int u = list[i] * grid_.select_block;
           u < std::min(lengths_[b], (list[i] + 1) * grid_.select_block); ++u)
        listed.push_back(u);
    }
    Row scores(static_cast<size_t>(own + 1));
    for (int head = group * rep_; head < (group + 1) * rep_; ++head) {
      const float* gate = gate_.data() + (tokens_[b].x * heads_ + head) * 3;
      Row expected(kDv);
      const Row p = Attend(b, 1, head, all, gate[0], &expected);
      for (int i = 0; i < compressed; ++i) {
        for (int piece = i; piece < i + overlap; ++piece) scores[piece / pieces] += p[i];
      }
      Attend(b, 0, head, listed, gate[1], &expected);
      Attend(b, 2, head, window, gate[2], &expected);
      CheckRow(o, b, head, expected);
    }
    CheckList(list, scores, own, 2e-5 * overlap * rep_);
  }
  void CheckList(const int32_t* list, const Row& scores, int own, double slack) const {
    const int count = std::min(grid_.places, own + 1), init = std::min(grid_.num_init, own + 1),
              local = std::max(init, own - grid_.num_local + 1);
    std::vector<bool> in(static_cast<size_t>(own + 1));
    for (int i = 0; i < grid_.places; ++i) {
      ASSERT_EQ(list[i] >= 0, i < count) << i;
      if (i >= count) continue;
      ASSERT_LE(list[i], own);
      ASSERT_TRUE(i == 0 || list[i] > list[i - 1]) << i;
      in[list[i]] = true;
    }
    double worst_taken = INFINITY, best_left = -INFINITY;
    for (int j = 0; j <= own; ++j) {
      if (j < init || j >= local) {
        ASSERT_TRUE(in[j]) << "block " << j;
      } else if (in[j]) {
        worst_taken = std::min(worst_taken, scores[j]);
      } else {
        best_left = std::max(best_left, scores[j]);
      }
    }
    ASSERT_LE(best_left, worst_taken + slack);
  }
  void CheckRow(const Bits& o, int b, int head, const Row& expected) const {
    double error = 0, norm = 0;
    for (int c = 0; c < kDv; ++c) {
      const double x = float(o[(int64_t{tokens_[b].x} * heads_ + head) * kDv + c]);
      error += (x - expected[c]) * (x - expected[c]);
      norm += expected[c] * expected[c];
    }
    ASSERT_LE(std::sqrt(error), 0.006 * std::sqrt(norm))
        << "sequence " << b << " of " << lengths_[b] << ", head " << head;
  }

  int heads_, groups_, rep_;
  std::vector<int> lengths_;
  Grid grid_;
  unsigned seed_ = 0;
  Bits q_;
  std::vector<float> gate_;
  std::vector<Bits> caches_;
  std::vector<int4> tokens_;
  std::vector<int64_t> addresses_;
  std::vector<int32_t> lists_;
};

TEST(DecodeKernels, FullAttentionInSplits) {
  Batch<decode::Config<64, 64, 3>>(8, 2, {1, 15, 16, 17, 64, 511, 512, 513, 1100}, kSmall, 1)
      .CheckFull();
  Batch<decode::Config<192, 128, 2>>(16, 1, {700}, kSmall, 2).CheckFull();
}

TEST(DecodeKernels, BranchesOfShortAndLongSequences) {
  Batch<Branches<64, 64, 2>>(6, 2, {1, 7, 8, 16, 17, 48, 49, 95, 300}, kSmall, 3).CheckBranches();
  // 513 compressed rows: tiles of four or five a block; blocks are left out.
  Batch<Branches<64, 64, 2>>(16, 1, {2056}, kSmall, 4).CheckBranches();
  Batch<Branches<128, 128, 1>>(4, 1, {77}, {6, 6, 12, 3, 0, 1, 200}, 5).CheckBranches();
  Batch<Branches<192, 128, 1>>(16, 1, {31, 33, 1500}, kPaper, 6).CheckBranches();
  // More candidates in a block of the cluster than a warp holds in registers.
  Batch<Branches<64, 64, 2>>(1, 1, {8500}, {4, 4, 4, 6, 1, 2, 8}, 10).CheckBranches();
}

// Equal scores go to the lowest index.
TEST(DecodeKernels, TiesGoToTheLowestIndex) {
  Batch<Branches<64, 64, 2>> batch(4, 1, {256}, {16, 16, 16, 6, 1, 2, 20}, 7, 0);
  batch.CheckBranches();
  EXPECT_EQ(batch.lists(), (std::vector<int32_t>{0, 1, 2, 3, 14, 15}));
}

// A sequence has the bits that it has alone, whatever the longest one of its batch.
TEST(DecodeKernels, NothingDependsOnTheBatch) {
  Batch<Branches<64, 64, 2>> batch(4, 1, {150, 900, 31}, kSmall, 8);
  batch.CheckBranches();
  Bits together, alone;
  batch.RunBranches(&together);
  for (int b = 0; b < 3; ++b) {
    batch.RunBranches(&alone, b);
    EXPECT_TRUE(batch.SameRow(together, alone, b)) << b;
  }
  batch.RunFull(&together);
  for (int b = 0; b < 3; ++b) {
    batch.RunFull(&alone, b);
    EXPECT_TRUE(batch.SameRow(together, alone, b)) << b;
  }
}

// Nor on how many tiles are on their way.
TEST(DecodeKernels, NothingDependsOnTheStages) {
  const std::vector<int> lengths = {31, 700};
  Batch<Branches<64, 64, 1>> shallow(4, 2, lengths, kSmall, 9);
  Batch<Branches<64, 64, 3>> deep(4, 2, lengths, kSmall, 9);
  Bits of_shallow, of_deep;
  shallow.RunBranches(&of_shallow);
  deep.RunBranches(&of_deep);
  for (int b = 0; b < 2; ++b) EXPECT_TRUE(shallow.SameRow(of_shallow, of_deep, b)) << b;
  EXPECT_EQ(shallow.lists(), deep.lists());
}

}  // namespace
}  // namespace lacuna::cuda
