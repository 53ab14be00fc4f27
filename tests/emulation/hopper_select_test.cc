// The Hopper kernel of block scores and choice without a card: scores against sums in f64, lists by
// what these allow, ties and NaN exactly.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "nsa/cuda/hopper/select_blocks.cuh"
#include "tests/emulation/card.h"

namespace lacuna::cuda::hopper {
namespace {

using Bits = std::vector<uint16_t>;
using UsualShape = select::Shape<4, 4, 2>;
using AnyShape = select::Shape<>;

float ToFloat(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

struct Grid {
  int block, stride, select_block, places, num_init, num_local;  // l, d, l', n
};
constexpr Grid kPaper = {32, 16, 64, 4, 1, 2};

enum class Keys { kRandom, kEqual, kOneNan };

template <class Config, class Shape>
struct Case {
  int heads, groups;
  Grid grid;
  bool in_workspace;
  int rep, pieces, overlap, width = 1;  // width: blocks of the longest document
  std::vector<int32_t> cu = {0}, cu_keys = {0}, ranges, positions, blocks;
  Bits q, k;
  std::vector<float> lse, scores, entropy;
  std::vector<double> expected;  // scores

  Case(int num_heads, int num_groups, const std::vector<int>& lengths, const Grid& g,
       bool workspace, Keys which, unsigned seed)
      : heads(num_heads),
        groups(num_groups),
        grid(g),
        in_workspace(workspace),
        rep(heads / groups),
        pieces(g.select_block / g.stride),
        overlap(g.block / g.stride) {
    for (const int length : lengths) {
      for (int t = 0; t < length; ++t) {
        ranges.push_back(cu_keys.back());
        ranges.push_back(cu_keys.back() + (t + 1 < g.block ? 0 : (t + 1 - g.block) / g.stride + 1));
        positions.push_back(t);
      }
      cu_keys.push_back(length == 0 ? cu_keys.back() : ranges.back());
      cu.push_back(cu.back() + length);
      width = std::max(width, (length + g.select_block - 1) / g.select_block);
    }
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](Bits& bits, int64_t count, float scale) {
      for (int64_t i = 0; i < count; ++i)
        bits.push_back(static_cast<uint16_t>(RoundToBFloat16(scale * normal(random))));
    };
    fill(q, int64_t{cu.back()} * heads * Config::kDk, 2);
    fill(k, int64_t{cu_keys.back()} * groups * Config::kDk, which == Keys::kEqual ? 0 : 1);
    if (which == Keys::kOneNan) q.back() = 0x7FC0;
    Reference();
    Run(random());
  }
  int tokens() const { return cu.back(); }

  void Reference() {
    expected.resize(static_cast<size_t>(tokens() * groups * width));
    const double scale = 1 / std::sqrt(Config::kDk);
    for (int row = 0; row < tokens() * heads; ++row) {
      const int n = row / heads, group = row % heads / rep, begin = ranges[2 * n],
                count = ranges[2 * n + 1] - begin;
      std::vector<double> s(count);
      double top = -INFINITY, total = 0;
      for (int i = 0; i < count; ++i) {
        for (int e = 0; e < Config::kDk; ++e)
          s[i] += scale * ToFloat(q[row * Config::kDk + e]) *
                  ToFloat(k[((begin + i) * groups + group) * Config::kDk + e]);
        top = std::max(top, s[i]);
      }
      for (const double x : s) total += std::exp(x - top);
      const double row_lse = count == 0 ? -INFINITY : top + std::log(total);
      lse.push_back(static_cast<float>(row_lse));
      for (int i = 0; i < count; ++i) {
        for (int piece = i; piece < i + overlap; ++piece)
          expected[(n * groups + group) * width + piece / pieces] += std::exp(s[i] - row_lse);
      }
    }
  }
  void Run(unsigned seed) {
    blocks.assign(static_cast<size_t>(tokens() * groups * grid.places), -7);
    scores.assign(expected.size(), NAN);
    entropy.assign(static_cast<size_t>(tokens() * groups), NAN);
    const int tile_tokens = select::kTileRows / rep, documents = static_cast<int>(cu.size()) - 1;
    int taken = 0;
    select::Params p = {};
    p.q = {q.data(),
           2,
           3,
           {Config::kDk, heads, tokens()},
           {1, Config::kDk, heads * Config::kDk},
           {64, rep, select::kWarpgroupRows / rep}};
    p.k = {k.data(),
           2,
           3,
           {Config::kDk, groups, cu_keys.back()},
           {1, Config::kDk, groups * Config::kDk},
           {64, 1, Config::kKeys}};
    p.work = {.sizes = {.heads = heads,
                        .groups = groups,
                        .rep = rep,
                        .dk = Config::kDk,
                        .dv = 0,
                        .documents = documents,
                        .queries = tokens(),
                        .keys = cu_keys.back(),
                        .cu_queries = cu.data(),
                        .cu_keys = cu_keys.data(),
                        .scale = 0},
              .slots = static_cast<int>(NumSlots(tokens(), 1, tile_tokens, documents)),
              .tile_tokens = tile_tokens,
              .rep_shift = std::countr_zero(static_cast<unsigned>(rep)),
              .groups_together = 1,
              .taken = &taken};
    p.choice = {blocks.data(), scores.data(),  entropy.data(), grid.places,
                grid.num_init, grid.num_local, width};
    p.lse = lse.data();
    p.ranges = ranges.data();
    p.positions = positions.data();
    p.factor = kLog2E / std::sqrt(static_cast<float>(Config::kDk));
    p.select_block = grid.select_block;
    p.pieces = pieces;
    p.overlap = overlap;
    p.tile_blocks = Config::kKeys / pieces;
    p.keys = {ranges.data(), cu_keys.data(), p.tile_blocks * pieces, overlap};
    p.score_stride = ((cu_keys.back() + overlap - 2) / p.keys.keys + 1) * p.tile_blocks;
    constexpr int kBlocks = 2;
    std::vector<float> workspace(static_cast<size_t>(kBlocks * tile_tokens * p.score_stride), NAN);
    if (in_workspace) p.workspace = workspace.data();
    emulation::Run({kBlocks, 1, select::kThreads}, seed,
                   [&] { select::SelectKernel<Config, Shape>(p); });
  }

  void CheckScores() const {
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(scores[i], expected[i], 1e-5 * overlap * rep) << i;
  }
  // A list has the forced blocks and the best others, within rounding of their scores.
  void CheckLists() const {
    const double slack = 1e-5 * overlap * rep;
    for (int row = 0; row < tokens() * groups; ++row) {
      const int own = positions[row / groups] / grid.select_block,
                count = std::min(grid.places, own + 1), init = std::min(grid.num_init, own + 1),
                local = std::max(init, own - grid.num_local + 1);
      const int32_t* const list = blocks.data() + row * grid.places;
      std::vector<bool> in(own + 1);
      for (int i = 0; i < grid.places; ++i) {
        ASSERT_EQ(list[i] >= 0, i < count) << "row " << row;
        if (i >= count) continue;
        ASSERT_LE(list[i], own);
        ASSERT_TRUE(i == 0 || list[i] > list[i - 1]) << "row " << row;
        in[list[i]] = true;
      }
      double worst_taken = INFINITY, best_left = -INFINITY;
      for (int j = 0; j <= own; ++j) {
        const double score = expected[row * width + j];
        if (j < init || j >= local) {
          ASSERT_TRUE(in[j]) << "row " << row << " block " << j;
        } else if (in[j]) {
          worst_taken = std::min(worst_taken, score);
        } else {
          best_left = std::max(best_left, score);
        }
      }
      ASSERT_LE(best_left, worst_taken + 2 * slack) << "row " << row;
    }
  }
};

template <class Config, class Shape>
void Check(int heads, int groups, const std::vector<int>& lengths, const Grid& grid,
           bool in_workspace, unsigned seed) {
  SCOPED_TRACE(testing::Message() << Config::kDk << ", " << heads << " heads in " << groups);
  const Case<Config, Shape> c(heads, groups, lengths, grid, in_workspace, Keys::kRandom, seed);
  c.CheckScores();
  c.CheckLists();
}

TEST(HopperSelect, ScoresAndLists) {
  Check<select::Config<192, 64, 4>, UsualShape>(16, 1, {150, 1, 0, 300, 33}, kPaper, false, 1);
  Check<select::Config<64, 64, 4>, UsualShape>(32, 2, {700}, kPaper, true, 2);
  Check<select::Config<128, 64, 2>, AnyShape>(8, 1, {420, 20}, kPaper, false, 3);
  Check<select::Config<64, 64, 4>, AnyShape>(32, 1, {400}, kPaper, false, 4);
  Check<select::Config<64, 64, 4>, AnyShape>(64, 1, {333}, kPaper, true, 5);
  Check<select::Config<64, 64, 4>, AnyShape>(16, 1, {300, 9}, {16, 4, 48, 4, 0, 1}, false, 6);
  Check<select::Config<64, 64, 4>, AnyShape>(16, 1, {300}, {4, 4, 4, 9, 2, 3}, false, 7);
}

// Equal scores go to the lowest index; a NaN makes all scores of its token NaN: the same.
TEST(HopperSelect, TiesGoToTheLowestIndexNanLast) {
  const Grid grid = {16, 16, 16, 6, 1, 2};
  for (const Keys keys : {Keys::kEqual, Keys::kOneNan}) {
    const Case<select::Config<64, 64, 4>, AnyShape> c(16, 1, {256}, grid, false, keys, 8);
    const std::vector<int32_t> last(c.blocks.end() - grid.places, c.blocks.end());
    EXPECT_EQ(last, (std::vector<int32_t>{0, 1, 2, 3, 14, 15}));
  }
}

}  // namespace
}  // namespace lacuna::cuda::hopper
