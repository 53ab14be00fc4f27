// The Hopper attention kernels without a card, against sums in f64: all key policies, groups of every
// size, packed documents.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "core/ops/cuda/hopper/attention_dq.cuh"
#include "core/ops/cuda/hopper/attention_fwd.cuh"
#include "core/ops/cuda/hopper/range_rows.cuh"
#include "nsa/cuda/hopper/chosen_rows.cuh"
#include "nsa/cuda/hopper/list_keys.cuh"
#include "nsa/cuda/list_sums.cuh"
#include "tests/emulation/card.h"
#include "tests/emulation/chosen_lists.h"

namespace lacuna::cuda::hopper {

namespace {

enum class Sees { kCausal, kWindow, kCompressed, kBlocks };
constexpr int kWindowKeys = 70, kCompression = 4, kPlaces = 4, kBlock = 64;

using Bits = std::vector<uint16_t>;
float ToFloat(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}
Bits Random(size_t count, float scale, std::mt19937& random) {
  std::normal_distribution<float> normal(0, scale);
  Bits bits(count);
  for (uint16_t& b : bits) b = static_cast<uint16_t>(RoundToBFloat16(normal(random)));
  return bits;
}
// The error of `actual` relative to `expected`, or infinity where something is not a number.
template <class Actual>
double Error(const std::vector<double>& expected, Actual&& actual) {
  double error = 0, all = 1e-30;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double a = actual(i);
    if (std::isnan(a)) return INFINITY;
    error += (a - expected[i]) * (a - expected[i]);
    all += expected[i] * expected[i];
  }
  return std::sqrt(error / all);
}
CUtensorMap Map(Bits& x, int64_t width, int64_t heads, int64_t rows, int box_heads, int box_rows) {
  return {
      x.data(), 2, 3, {width, heads, rows}, {1, width, heads * width}, {64, box_heads, box_rows}};
}

// A call on random inputs, and what it should give.
template <int kDk, int kDv>
struct Call {
  int heads, groups, rep, rep_shift = 0;
  Sees sees;
  int queries, keys;
  std::vector<int32_t> cu_queries = {0}, cu_keys = {0}, ranges, positions, blocks;
  Bits q, k, v, d_o;
  std::vector<double> o, dq, dk, dv;
  std::vector<float> lse, delta;
  float scale = 1 / std::sqrt(static_cast<float>(kDk));
  std::mt19937 random;

  Call(int num_heads, int num_groups, const std::vector<int>& lengths, Sees which, unsigned seed)
      : heads(num_heads), groups(num_groups), rep(heads / groups), sees(which), random(seed) {
    while (1 << rep_shift < rep) ++rep_shift;
    for (const int length : lengths) {
      const int first = cu_keys.back();
      for (int t = 0; t < length; ++t) {
        const int end = sees == Sees::kCompressed ? (t + 1) / kCompression : t + 1;
        ranges.push_back(first + (sees == Sees::kWindow ? std::max(0, end - kWindowKeys) : 0));
        ranges.push_back(first + end);
        positions.push_back(t);
      }
      cu_keys.push_back(first + (sees == Sees::kCompressed ? length / kCompression : length));
      cu_queries.push_back(cu_queries.back() + length);
    }
    queries = cu_queries.back();
    keys = cu_keys.back();
    const auto size = [](int64_t a, int64_t b, int64_t c) {
      return static_cast<size_t>(a * b * c);
    };
    q = Random(size(queries, heads, kDk), 2, random);
    d_o = Random(size(queries, heads, kDv), 1, random);
    k = Random(size(keys, groups, kDk), 1, random);
    v = Random(size(keys, groups, kDv), 1, random);
    ChooseBlocks();
    Reference();
  }

  int DocumentOf(int n) const {
    return DocumentOfRow(cu_queries.data(), static_cast<int>(cu_queries.size()) - 1, n);
  }
  AttentionSizes sizes() const {
    return {.heads = heads,
            .groups = groups,
            .rep = rep,
            .dk = kDk,
            .dv = kDv,
            .documents = static_cast<int>(cu_queries.size()) - 1,
            .queries = queries,
            .keys = keys,
            .cu_queries = cu_queries.data(),
            .cu_keys = cu_keys.data(),
            .scale = scale};
  }
  // The own block and random ones before it, ascending.
  void ChooseBlocks() {
    blocks.assign(static_cast<size_t>(queries * groups * kPlaces), -1);
    for (int row = 0; row < queries * groups; ++row) {
      const int own = positions[row / groups] / kBlock;
      std::map<int, bool> chosen = {{own, true}};
      while (static_cast<int>(chosen.size()) < std::min(kPlaces, own + 1))
        chosen[static_cast<int>(random() % (own + 1))] = true;
      int place = 0;
      for (const auto& [block, is] : chosen) blocks[row * kPlaces + place++] = block;
    }
  }
  std::vector<int> KeysOf(int n, int group) const {
    std::vector<int> seen;
    if (sees != Sees::kBlocks) {
      for (int key = ranges[2 * n]; key < ranges[2 * n + 1]; ++key) seen.push_back(key);
      return seen;
    }
    const int first = cu_keys[DocumentOf(n)];
    for (int place = 0; place < kPlaces; ++place) {
      const int block = blocks[(n * groups + group) * kPlaces + place];
      for (int t = block * kBlock; block >= 0 && t < (block + 1) * kBlock && t <= positions[n]; ++t)
        seen.push_back(first + t);
    }
    return seen;
  }
  void Reference() {
    o.resize(d_o.size());
    dq.resize(q.size());
    dk.resize(k.size());
    dv.resize(v.size());
    for (int row = 0; row < queries * heads; ++row) {
      const int n = row / heads, group = row % heads / rep;
      const std::vector<int> seen = KeysOf(n, group);
      std::vector<double> scores, dp;
      double top = -INFINITY, total = 0, sum = 0;
      for (const int key : seen) {
        double s = 0, d = 0;
        for (int e = 0; e < kDk; ++e)
          s += double{ToFloat(q[row * kDk + e])} * ToFloat(k[(key * groups + group) * kDk + e]);
        for (int e = 0; e < kDv; ++e)
          d += double{ToFloat(d_o[row * kDv + e])} * ToFloat(v[(key * groups + group) * kDv + e]);
        scores.push_back(s * scale);
        dp.push_back(d);
        top = std::max(top, scores.back());
      }
      for (const double s : scores) total += std::exp(s - top);
      const double row_lse = seen.empty() ? -INFINITY : top + std::log(total);
      for (size_t i = 0; i < seen.size(); ++i) sum += std::exp(scores[i] - row_lse) * dp[i];
      lse.push_back(static_cast<float>(row_lse));
      delta.push_back(static_cast<float>(sum));
      for (size_t i = 0; i < seen.size(); ++i) {
        const int at = seen[i] * groups + group;
        const double p = std::exp(scores[i] - row_lse), ds = p * (dp[i] - sum) * scale;
        for (int e = 0; e < kDv; ++e) {
          o[row * kDv + e] += p * ToFloat(v[at * kDv + e]);
          dv[at * kDv + e] += p * ToFloat(d_o[row * kDv + e]);
        }
        for (int e = 0; e < kDk; ++e) {
          dq[row * kDk + e] += ds * ToFloat(k[at * kDk + e]);
          dk[at * kDk + e] += ds * ToFloat(q[row * kDk + e]);
        }
      }
    }
  }

  template <class Config, class Params>
  void SetUp(Params& p, int* taken) {
    const int tokens = attention::kTileRows<Config> / rep;
    p.q = Map(q, kDk, heads, queries, rep, attention::kWarpgroupRows / rep);
    p.k = Map(k, kDk, groups, keys, 1, Config::kKeys);
    p.v = Map(v, kDv, groups, keys, 1, Config::kKeys);
    p.work = {.sizes = sizes(),
              .slots = static_cast<int>(NumSlots(queries, 1, tokens, sizes().documents)),
              .tile_tokens = tokens,
              .rep_shift = rep_shift,
              .groups_together = std::min(2, groups),
              .taken = taken};
    p.factor = scale * kLog2E;
  }
  template <class Config, class Keys>
  void CheckForward(const Keys& key_policy) {
    int taken = 0;
    Bits out(o.size(), 0x7FC0);
    std::vector<float> out_lse(lse.size(), NAN);
    attention::FwdParams<Keys> p = {};
    SetUp<Config>(p, &taken);
    p.keys = key_policy;
    p.o = reinterpret_cast<BFloat16*>(out.data());
    p.lse = out_lse.data();
    Bits sum(Keys::kLists ? o.size() : 0, 0x7FC0);
    std::vector<float> gates(3 * lse.size());
    for (size_t i = 0; i < gates.size(); ++i) gates[i] = static_cast<float>(i % 7) / 8;
    if (Keys::kLists) {
      const auto* other = reinterpret_cast<const BFloat16*>(d_o.data());
      p.gated = {gates.data(), other, other, reinterpret_cast<BFloat16*>(sum.data())};
    }
    emulation::Run({2, 1, attention::kThreads<Config>}, random(),
                   [&] { attention::FwdKernel<Config, Keys>(p); });
    EXPECT_LT(Error(o, [&](size_t i) { return ToFloat(out[i]); }), 4e-3);
    for (size_t i = 0; i < sum.size(); ++i) {
      const float* g = &gates[i / kDv * 3];
      const float expected = (g[0] + g[2]) * ToFloat(d_o[i]) + g[1] * ToFloat(out[i]);
      ASSERT_NEAR(ToFloat(sum[i]), expected, 4e-3 * std::abs(expected) + 1e-6) << i;
    }
    for (size_t i = 0; i < lse.size(); ++i) {
      if (std::isinf(lse[i])) {
        EXPECT_EQ(out_lse[i], lse[i]);
      } else {
        EXPECT_NEAR(out_lse[i], lse[i], 1e-4);
      }
    }
  }
  template <class Config, class Keys>
  void CheckDq(const Keys& key_policy, bool add = false) {
    int taken = 0;
    Bits out(dq.size(), 0x7FC0);
    attention::DqParams<Keys> p = {};
    SetUp<Config>(p, &taken);
    p.d_o = Map(d_o, kDv, heads, queries, rep, attention::kWarpgroupRows / rep);
    p.keys = key_policy;
    p.lse = lse.data();
    p.delta = delta.data();
    p.dq = reinterpret_cast<BFloat16*>(out.data());
    p.scale = scale;
    emulation::Run({2, 1, attention::kThreads<Config>}, random(),
                   [&] { attention::DqKernel<Config, Keys>(p); });
    EXPECT_LT(Error(dq, [&](size_t i) { return ToFloat(out[i]); }), 5e-3);
    if (!add) return;
    taken = 0;
    p.add = true;
    emulation::Run({2, 1, attention::kThreads<Config>}, random(),
                   [&] { attention::DqKernel<Config, Keys>(p); });
    EXPECT_LT(Error(dq, [&](size_t i) { return ToFloat(out[i]) / 2; }), 7e-3);
  }
  // Runs `check` with the unions of Config's tiles.
  template <class Config, class Check>
  void WithUnions(Check&& check) {
    const int tokens = attention::kTileRows<Config> / rep;
    const UnionListSizes u = {
        .sizes = sizes(),
        .tile_tokens = tokens,
        .warpgroup_tokens = attention::kWarpgroupRows / rep,
        .warpgroups = Config::kConsumers,
        .slots = static_cast<int>(NumSlots(queries, 1, tokens, sizes().documents)),
        .places = kPlaces,
        .select_block = kBlock};
    std::vector<int> counts(u.lists(), -1);
    std::vector<UnionBlock> unions(u.lists() * u.capacity());
    emulation::Run(
        {static_cast<unsigned>((u.lists() + kUnionWarps - 1) / kUnionWarps), 1, kUnionWarps * 32},
        random(), [&] { UnionListsKernel(u, blocks.data(), counts.data(), unions.data()); });
    check(ListKeys<kBlock>{.counts = counts.data(),
                           .unions = unions.data(),
                           .positions = positions.data(),
                           .capacity = u.capacity(),
                           .warpgroup_tokens = u.warpgroup_tokens});
  }
  template <class Config, class Rows>
  void RunDkv(const Rows& rows, emulation::LaunchShape grid) {
    attention::DkvParams<Rows> p = {};
    const int tokens = attention::AreConsecutive<Rows>() ? Config::kRows / rep : 1;
    p.q = Map(q, kDk, heads, queries, rep, tokens);
    p.k = Map(k, kDk, groups, keys, 1, kBlock);
    p.v = Map(v, kDv, groups, keys, 1, kBlock);
    p.d_o = Map(d_o, kDv, heads, queries, rep, tokens);
    p.sizes = sizes();
    p.rows = rows;
    p.lse = lse.data();
    p.delta = delta.data();
    p.scale = scale;
    p.factor = scale * kLog2E;
    grid.cluster = 1;
    grid.threads = Config::kThreads;
    emulation::Run(grid, random(), [&] { attention::DkvKernel<Config, Rows>(p); });
  }
  // sum(row of k and group, column of [dk | dv])
  template <class Sum>
  void CheckKeyGradients(Sum&& sum) {
    EXPECT_LT(Error(dk, [&](size_t i) { return sum(i / kDk, static_cast<int>(i % kDk)); }), 5e-3);
    EXPECT_LT(Error(dv, [&](size_t i) { return sum(i / kDv, static_cast<int>(i % kDv) + kDk); }),
              5e-3);
  }
  void CheckChosenDkv() {
    const ChosenLists lists(sizes(), blocks, kPlaces, kBlock, /*chunk_rows=*/1024, random());
    std::vector<float> partial(groups * lists.sizes.MaxSums() * kBlock * (kDk + kDv), NAN);
    Bits out_dk(dk.size(), 0x7FC0), out_dv(dv.size(), 0x7FC0);
    RunDkv<attention::DkvConfig<kDk, kDv>>(
        ChosenRows<kDk, kDv>{.tokens = lists.tokens.data(),
                             .starts = lists.starts.data(),
                             .num_blocks = lists.sizes.num_blocks,
                             .of_list = lists.of_list.data(),
                             .chunks = lists.chunks.data(),
                             .positions = positions.data(),
                             .dk = reinterpret_cast<BFloat16*>(out_dk.data()),
                             .dv = reinterpret_cast<BFloat16*>(out_dv.data()),
                             .partial = partial.data(),
                             .groups = groups},
        {static_cast<unsigned>(lists.chunks.size()), 1, 1});
    const ListSums<BFloat16> sums = {reinterpret_cast<BFloat16*>(out_dk.data()),
                                     reinterpret_cast<BFloat16*>(out_dv.data()), partial.data()};
    emulation::LaunchShape grid = {static_cast<unsigned>(lists.of_list.size()), 1, 64};
    grid.blocks_y = kBlock / kSumKeys;
    emulation::Run(grid, random(),
                   [&] { SumChunksKernel(lists.sizes, sums, lists.of_list.data(), 0); });
    CheckKeyGradients([&](size_t row, int column) -> double {
      return column < kDk ? ToFloat(out_dk[row * kDk + column])
                          : ToFloat(out_dv[row * kDv + column - kDk]);
    });
  }
  // In parts, or written directly.
  void CheckRangeDkv(bool in_parts) {
    std::vector<float> partial((queries + keys) * groups * (kDk + kDv), NAN);
    Bits out_dk(dk.size(), 0x7FC0), out_dv(dv.size(), 0x7FC0);
    RunDkv<attention::DkvConfig<kDk, kDv>>(
        attention::RangeRows<kDk, kDv>{.ranges = ranges.data(),
                                       .dk = reinterpret_cast<BFloat16*>(out_dk.data()),
                                       .dv = reinterpret_cast<BFloat16*>(out_dv.data()),
                                       .partial = in_parts ? partial.data() : nullptr,
                                       .groups = groups},
        {static_cast<unsigned>(NumSlots(keys, 1, kBlock, sizes().documents)), 1, 1,
         static_cast<unsigned>(groups), in_parts ? unsigned{kMaxParts} : 1});
    CheckKeyGradients([&](size_t row, int column) -> double {
      if (!in_parts) {
        return column < kDk ? ToFloat(out_dk[row * kDk + column])
                            : ToFloat(out_dv[row * kDv + column - kDk]);
      }
      const int key = static_cast<int>(row) / groups, group = static_cast<int>(row) % groups,
                d = DocumentOfRow(cu_keys.data(), sizes().documents, key),
                of_document = cu_keys[d + 1] - cu_keys[d];
      double all = 0;
      for (int64_t part = 0; part < NumParts(sizes(), d); ++part) {
        const int64_t at = PartialRow(sizes(), d, key) + part * of_document;
        all += partial[(at * groups + group) * (kDk + kDv) + column];
      }
      return all;
    });
  }
};

template <int kDk, int kDv>
void Check(int heads, int groups, const std::vector<int>& lengths, unsigned seed) {
  constexpr int kStages = kDk == 192 ? 3 : 4;
  using Fwd = attention::FwdConfig<kDk, kDv, 80, kStages>;
  using ListFwd = attention::FwdConfig<kDk, kDv, kBlock, kStages>;
  using Dq = attention::DqConfig<kDk, kDv, kStages>;
  for (const Sees sees : {Sees::kCausal, Sees::kWindow, Sees::kCompressed, Sees::kBlocks}) {
    SCOPED_TRACE(testing::Message() << kDk << ", " << heads << " heads in " << groups
                                    << " groups, policy " << static_cast<int>(sees));
    Call<kDk, kDv> call(heads, groups, lengths, sees, seed);
    if (call.keys == 0) continue;
    if (sees != Sees::kBlocks) {
      call.template CheckForward<Fwd>(attention::RangeKeys<Fwd::kKeys>{call.ranges.data()});
      call.template CheckDq<Dq>(attention::RangeKeys<Dq::kKeys>{call.ranges.data()});
      call.CheckRangeDkv(/*in_parts=*/sees == Sees::kCompressed);
    } else if (heads / groups >= 8) {
      call.template WithUnions<ListFwd>(
          [&](const auto& keys) { call.template CheckForward<ListFwd>(keys); });
      call.template WithUnions<Dq>([&](const auto& keys) { call.template CheckDq<Dq>(keys); });
      call.CheckChosenDkv();
    }
  }
}

TEST(HopperAttention, DocumentsOfAllSorts) {
  Check<192, 128>(16, 1, {1, 0, 150, 37}, 1);
  Check<192, 128>(16, 1, {3}, 2);
}
TEST(HopperAttention, GroupsOfAllSizes) {
  Check<192, 128>(8, 1, {90}, 3);
  Check<128, 128>(32, 1, {20, 69}, 4);
  Check<128, 128>(64, 1, {30}, 5);
  Check<128, 128>(4, 1, {110}, 6);
  Check<128, 128>(2, 2, {120}, 7);
}
TEST(HopperAttention, SeveralGroupsAndManyBlocks) {
  Check<128, 128>(16, 2, {66}, 8);
  Call<192, 128> call(16, 1, {330, 65}, Sees::kBlocks, 9);
  using ListFwd = attention::FwdConfig<192, 128, kBlock, 3>;
  using Dq = attention::DqConfig<192, 128, 3>;
  call.WithUnions<ListFwd>([&](const auto& keys) { call.CheckForward<ListFwd>(keys); });
  call.WithUnions<Dq>([&](const auto& keys) { call.CheckDq<Dq>(keys, /*add=*/true); });
  call.CheckChosenDkv();
}

}  // namespace
}  // namespace lacuna::cuda::hopper
