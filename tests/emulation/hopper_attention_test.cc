// The Hopper attention kernels without a card, against sums in f64: all key policies, groups of every
// size, packed documents, queries that are a part of the tokens.
#include <gtest/gtest.h>

#include <bit>
#include <vector>

#include "core/cuda/gated_sum.cuh"
#include "core/ops/cuda/hopper/attention_dq.cuh"
#include "core/ops/cuda/hopper/attention_fwd.cuh"
#include "core/ops/cuda/hopper/range_rows.cuh"
#include "nsa/cuda/hopper/chosen_rows.cuh"
#include "nsa/cuda/hopper/list_keys.cuh"
#include "nsa/cuda/list_sums.cuh"
#include "tests/emulation/chosen_lists.h"
#include "tests/emulation/hopper_attention_call.h"

namespace lacuna::cuda::hopper {
namespace {

// Runs the kernels on it.
template <int kDk, int kDv>
struct Call : AttentionCall<kDk, kDv> {
  using Base = AttentionCall<kDk, kDv>;
  using Base::Base, Base::heads, Base::groups, Base::rep, Base::rep_shift, Base::sees,
      Base::queries, Base::keys, Base::cu_queries, Base::cu_keys, Base::ranges, Base::positions,
      Base::blocks, Base::q, Base::k, Base::v, Base::d_o, Base::o, Base::dq, Base::dk, Base::dv,
      Base::lse, Base::delta, Base::scale, Base::random, Base::sizes;

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
    // To the bit what the gated sum is of outputs that were kept (nsa/nsa_branches.h).
    for (size_t i = 0; i < sum.size(); ++i) {
      const float* g = &gates[i / kDv * 3];
      const BFloat16 expected(
          WeightedSum({g[0], g[1], g[2]}, ToFloat(d_o[i]), ToFloat(out[i]), ToFloat(d_o[i])));
      ASSERT_EQ(sum[i], std::bit_cast<uint16_t>(expected)) << i;
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
void Check(int heads, int groups, const std::vector<int>& lengths, unsigned seed,
           Queries queries = {}) {
  constexpr int kStages = kDk == 192 ? 3 : 4;
  using Fwd = attention::FwdConfig<kDk, kDv, 80, kStages>;
  using ListFwd = attention::FwdConfig<kDk, kDv, kBlock, kStages>;
  using Dq = attention::DqConfig<kDk, kDv, kStages>;
  for (const Sees sees : {Sees::kCausal, Sees::kWindow, Sees::kCompressed, Sees::kBlocks}) {
    SCOPED_TRACE(testing::Message() << kDk << ", " << heads << " heads in " << groups
                                    << " groups, policy " << static_cast<int>(sees));
    Call<kDk, kDv> call(heads, groups, lengths, sees, seed, queries);
    if (call.keys == 0) continue;
    if (sees != Sees::kBlocks) {
      call.template CheckForward<Fwd>(attention::RangeKeys<Fwd::kKeys>{call.ranges.data()});
      call.template CheckDq<Dq>(attention::RangeKeys<Dq::kKeys>{call.ranges.data()});
      // Without parts only where every part would be the first.
      if (sees != Sees::kCompressed) call.CheckRangeDkv(/*in_parts=*/false);
      if (sees == Sees::kCompressed || queries.rank >= 0) call.CheckRangeDkv(/*in_parts=*/true);
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
// Documents without a query, keys that no query sees, blocks that no query chose.
TEST(HopperAttention, QueriesOfOneOfTwoRanks) {
  for (const int rank : {0, 1}) Check<192, 128>(16, 1, {40, 5, 0, 200, 1}, 10, {rank});
  Check<128, 128>(16, 2, {130}, 11, {1});
}

}  // namespace
}  // namespace lacuna::cuda::hopper
