// A call of the Hopper attention kernels without a card: random inputs, and what it should give by sums in
// f64.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "core/cuda/attention_sizes.cuh"
#include "core/cuda/hopper.cuh"
#include "core/cuda/tensor_core.cuh"
#include "tests/emulation/card.h"

namespace lacuna::cuda::hopper {

enum class Sees { kCausal, kWindow, kCompressed, kBlocks };
inline constexpr int kWindowKeys = 70, kCompression = 4, kPlaces = 4, kBlock = 64;

using Bits = std::vector<uint16_t>;
inline float ToFloat(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}
inline Bits Random(size_t count, float scale, std::mt19937& random) {
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
inline CUtensorMap Map(Bits& x, int64_t width, int64_t heads, int64_t rows, int box_heads,
                       int box_rows) {
  return {
      x.data(), 2, 3, {width, heads, rows}, {1, width, heads * width}, {64, box_heads, box_rows}};
}

// Which tokens are queries: all, or those of one of two ranks that share them, pieces 0 and 3 of 4 or 1
// and 2 (nn/context_share.h).
struct Queries {
  int rank = -1;  // -1: all

  bool Has(int row, int rows) const {
    const int piece = 4 * row / rows;
    return rank < 0 || (piece == 0 || piece == 3) == (rank == 0);
  }
};

// A call on random inputs, and what it should give.
template <int kDk, int kDv>
struct AttentionCall {
  int heads, groups, rep, rep_shift = 0;
  Sees sees;
  int queries, keys;
  std::vector<int32_t> cu_queries = {0}, cu_keys = {0}, ranges, positions, blocks;
  Bits q, k, v, d_o;
  std::vector<double> o, dq, dk, dv;
  std::vector<float> lse, delta;
  float scale = 1 / std::sqrt(static_cast<float>(kDk));
  std::mt19937 random;

  AttentionCall(int num_heads, int num_groups, const std::vector<int>& lengths, Sees which,
                unsigned seed, Queries which_queries = {})
      : heads(num_heads), groups(num_groups), rep(heads / groups), sees(which), random(seed) {
    while (1 << rep_shift < rep) ++rep_shift;
    const int rows = std::accumulate(lengths.begin(), lengths.end(), 0);
    int row = 0;
    for (const int length : lengths) {
      const int first = cu_keys.back();
      for (int t = 0; t < length; ++t) {
        if (!which_queries.Has(row++, rows)) continue;
        const int end = sees == Sees::kCompressed ? (t + 1) / kCompression : t + 1;
        ranges.push_back(first + (sees == Sees::kWindow ? std::max(0, end - kWindowKeys) : 0));
        ranges.push_back(first + end);
        positions.push_back(t);
      }
      cu_keys.push_back(first + (sees == Sees::kCompressed ? length / kCompression : length));
      cu_queries.push_back(static_cast<int>(positions.size()));
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
};

}  // namespace lacuna::cuda::hopper
