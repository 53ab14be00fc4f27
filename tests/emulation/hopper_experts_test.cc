// The experts' Hopper kernels without a card, against sums in f64: every size of tile, ragged depths,
// experts without rows.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "moe/cuda/hopper/dw_kernel.cuh"
#include "moe/cuda/hopper/rows_kernel.cuh"
#include "moe/cuda/hopper/store_swiglu_bwd.cuh"
#include "tests/emulation/card.h"

namespace lacuna::cuda::hopper {
namespace {

using Bits = std::vector<uint16_t>;
constexpr uint16_t kNan = 0x7FC0;

float ToFloat(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}
Bits Random(int64_t count, float scale, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  Bits bits(static_cast<size_t>(count));
  for (uint16_t& b : bits) b = static_cast<uint16_t>(RoundToBFloat16(normal(random)));
  return bits;
}
BFloat16* Data(Bits& x) {
  return reinterpret_cast<BFloat16*>(x.data());
}
// |actual - expected| within rounding to bf16 of values of this size.
template <class Actual>
void ExpectNear(const std::vector<double>& expected, Actual&& actual, const char* what) {
  double largest = 0;
  for (const double x : expected) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(actual(i), expected[i], std::abs(expected[i]) / 100 + largest / 500)
        << what << " " << i;
  }
}

struct Sizes {
  int64_t in, out;
  std::vector<int64_t> offsets;

  int64_t experts() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t rows() const { return offsets.back(); }
  int64_t ExpertOf(int64_t row) const {
    int64_t e = 0;
    while (offsets[e + 1] <= row) ++e;
    return e;
  }
};
const std::vector<Sizes> kSizes = {{72, 136, {0, 1, 1, 20}},
                                   {200, 40, {0, 0, 90, 223}},
                                   {64, 264, {0, 300, 317}},
                                   {1096, 24, {0, 40, 170}}};

// [rows][out]: x w^T over `in`, or x w with w [experts][out of x][features].
std::vector<double> Product(const Sizes& s, const Bits& x, const Bits& w, int64_t depth,
                            int64_t features, bool transpose_w) {
  std::vector<double> y(static_cast<size_t>(s.rows() * features));
  for (int64_t r = 0; r < s.rows(); ++r) {
    const uint16_t* const matrix = w.data() + s.ExpertOf(r) * depth * features;
    for (int64_t f = 0; f < features; ++f) {
      for (int64_t d = 0; d < depth; ++d) {
        y[r * features + f] += double{ToFloat(x[r * depth + d])} *
                               ToFloat(matrix[transpose_w ? f * depth + d : d * features + f]);
      }
    }
  }
  return y;
}

template <class Epilogue>
RowsParams<Epilogue> Rows(const Sizes& s, Bits& x, int64_t depth, int64_t features,
                          int64_t tile_features) {
  RowsParams<Epilogue> p = {};
  p.x = {x.data(), 2, 2, {depth, s.rows()}, {1, depth}, {64, kRowBox}};
  p.offsets = {s.offsets.data(), 1, 1};
  p.rows = s.rows();
  p.experts = static_cast<int>(s.experts());
  p.slices = static_cast<int>((depth + kDepth - 1) / kDepth);
  p.features = static_cast<int>(features);
  p.feature_pairs = static_cast<int>((tile_features + kCluster * kM - 1) / (kCluster * kM));
  p.pace = std::max(1, p.slices / (kN / Epilogue::kRows + Epilogue::kFetches));
  return p;
}
template <class Epilogue, bool kTransposeW>
void RunRows(const RowsParams<Epilogue>& p, unsigned seed) {
  emulation::Run({4, kCluster, kThreads}, seed, [&] { RowsKernel<Epilogue, kTransposeW>(p); });
}
CUtensorMap Matrices(Bits& w, int64_t rows, int64_t columns, int64_t experts, int box_rows) {
  return {w.data(),         2, 3, {columns, rows, experts}, {1, columns, rows * columns},
          {64, box_rows, 1}};
}

TEST(HopperExperts, ProductsOfRows) {
  for (const Sizes& s : kSizes) {
    SCOPED_TRACE(testing::Message() << s.in << " -> " << s.out);
    Bits x = Random(s.rows() * s.in, 1, 1), w = Random(s.experts() * s.out * s.in, 1, 2),
         dy = Random(s.rows() * s.out, 1, 3), y(s.rows() * s.out, kNan), dx(s.rows() * s.in, kNan);
    auto p = Rows<StoreProducts>(s, x, s.in, s.out, s.out);
    p.w = Matrices(w, s.out, s.in, s.experts(), kM);
    p.epilogue = {Data(y)};
    RunRows<StoreProducts, true>(p, 4);
    ExpectNear(
        Product(s, x, w, s.in, s.out, true), [&](size_t i) { return ToFloat(y[i]); }, "y");
    auto back = Rows<StoreProducts>(s, dy, s.out, s.in, s.in);
    back.w = Matrices(w, s.out, s.in, s.experts(), 64);
    back.epilogue = {Data(dx)};
    RunRows<StoreProducts, false>(back, 5);
    ExpectNear(
        Product(s, dy, w, s.out, s.in, false), [&](size_t i) { return ToFloat(dx[i]); }, "dx");
  }
}

TEST(HopperExperts, SwiGluBehindTheProduct) {
  for (const Sizes& s : kSizes) {
    SCOPED_TRACE(testing::Message() << s.in << " -> " << s.out);
    const int64_t f = s.out;
    Bits x = Random(s.rows() * s.in, 1, 1), w = Random(s.experts() * 2 * f * s.in, 0.2F, 2),
         z(s.rows() * 2 * f, kNan), h(s.rows() * f, kNan);
    auto p = Rows<StoreSwiGlu>(s, x, s.in, 2 * f, 2 * f);
    p.feature_pairs = static_cast<int>((f + kM - 1) / kM);
    p.w = {w.data(),
           2,
           5,
           {s.in, 8, 2, f / 8, s.experts()},
           {1, s.in, f * s.in, 8 * s.in, 2 * f * s.in},
           {64, 8, 2, kM / 16, 1}};
    p.epilogue = {Data(z), Data(h)};
    RunRows<StoreSwiGlu, true>(p, 6);
    ExpectNear(
        Product(s, x, w, s.in, 2 * f, true), [&](size_t i) { return ToFloat(z[i]); }, "z");
    std::vector<double> expected;
    for (int64_t i = 0; i < s.rows() * f; ++i) {
      const double gate = ToFloat(z[i / f * 2 * f + i % f]),
                   up = ToFloat(z[i / f * 2 * f + f + i % f]);
      expected.push_back(gate / (1 + std::exp(-gate)) * up);
    }
    ExpectNear(
        expected, [&](size_t i) { return ToFloat(h[i]); }, "h");
  }
}

// The rows of one chunk of every expert, between others that are NaNs, give the bits that they give
// among all, and nothing else is written.
TEST(HopperExperts, RowsOfOneChunk) {
  // Experts of three chunks: without rows, with one alone, several tiles.
  const std::vector<int64_t> cuts = {0, 0, 0, 0, 0, 20, 20, 25, 65, 330};
  const Sizes s = {72, 40, {0, 0, 20, 330}};
  const int64_t f = s.out;
  const Bits all = Random(s.rows() * s.in, 1, 1);
  Bits w = Random(s.experts() * 2 * f * s.in, 0.2F, 2);
  const auto run = [&](Bits& x, const ExpertOffsets& offsets, Bits& z, Bits& h) {
    auto p = Rows<StoreSwiGlu>(s, x, s.in, 2 * f, 2 * f);
    p.offsets = offsets;
    p.feature_pairs = static_cast<int>((f + kM - 1) / kM);
    p.w = {w.data(),
           2,
           5,
           {s.in, 8, 2, f / 8, s.experts()},
           {1, s.in, f * s.in, 8 * s.in, 2 * f * s.in},
           {64, 8, 2, kM / 16, 1}};
    p.epilogue = {Data(z), Data(h)};
    RunRows<StoreSwiGlu, true>(p, 6);
  };
  Bits x = all, z(s.rows() * 2 * f, kNan), h(s.rows() * f, kNan);
  run(x, {cuts.data(), 3, 3}, z, h);
  for (int64_t chunk = 0; chunk < 3; ++chunk) {
    Bits some(x.size(), kNan), z_expected(z.size(), kNan), h_expected(h.size(), kNan),
        z_chunk = z_expected, h_chunk = h_expected;
    for (int64_t e = 0; e < s.experts(); ++e) {
      const auto copy = [&](const Bits& from, Bits& to, int64_t columns) {
        std::copy(from.begin() + cuts[3 * e + chunk] * columns,
                  from.begin() + cuts[3 * e + chunk + 1] * columns,
                  to.begin() + cuts[3 * e + chunk] * columns);
      };
      copy(all, some, s.in);
      copy(z, z_expected, 2 * f);
      copy(h, h_expected, f);
    }
    run(some, {cuts.data() + chunk, 3, 1}, z_chunk, h_chunk);
    EXPECT_EQ(z_chunk, z_expected) << chunk;
    EXPECT_EQ(h_chunk, h_expected) << chunk;
  }
}

TEST(HopperExperts, SwiGluBackwardBehindTheProduct) {
  for (const Sizes& s : kSizes) {
    SCOPED_TRACE(testing::Message() << s.in << " -> " << s.out);
    const int64_t c = s.in, f = s.out, slots = (f + 63) / 64;
    Bits dy = Random(s.rows() * c, 1, 1), down = Random(s.experts() * c * f, 0.2F, 2),
         z = Random(s.rows() * 2 * f, 1, 3), dz = z, wh(s.rows() * f, kNan);
    std::vector<float> weight, dots(slots * s.rows(), NAN);
    for (const uint16_t b : Random(s.rows(), 1, 4)) weight.push_back(ToFloat(b));
    auto p = Rows<StoreSwiGluBwd>(s, dy, c, f, f);
    p.w = Matrices(down, c, f, s.experts(), 64);
    p.epilogue = {Data(dz), Data(dz), Data(wh), weight.data(), dots.data(), s.rows()};
    RunRows<StoreSwiGluBwd, false>(p, 7);
    const std::vector<double> dh = Product(s, dy, down, c, f, false);
    std::vector<double> dz_true(dz.size()), wh_true(wh.size()), dot_true(weight.size());
    for (int64_t i = 0; i < s.rows() * f; ++i) {
      const int64_t r = i / f, g = r * 2 * f + i % f, u = g + f;
      const double gate = ToFloat(z[g]), up = ToFloat(z[u]), sigma = 1 / (1 + std::exp(-gate)),
                   hidden = gate * sigma * up;
      dot_true[r] += dh[i] * hidden;
      wh_true[i] = weight[r] * hidden;
      dz_true[g] = weight[r] * dh[i] * up * sigma * (1 + gate * (1 - sigma));
      dz_true[u] = weight[r] * dh[i] * gate * sigma;
    }
    ExpectNear(
        dz_true, [&](size_t i) { return ToFloat(dz[i]); }, "dz");
    ExpectNear(
        wh_true, [&](size_t i) { return ToFloat(wh[i]); }, "wh");
    ExpectNear(
        dot_true,
        [&](size_t r) {
          double sum = 0;
          for (int64_t slot = 0; slot < slots; ++slot) sum += dots[slot * s.rows() + r];
          return sum;
        },
        "dot");
  }
}

// stride: every stride-th of the offsets; what stands between does not matter.
template <bool kAccumulate, bool kTransposed>
void CheckDw(const Sizes& s, int stride = 1) {
  SCOPED_TRACE(testing::Message() << s.in << " -> " << s.out << (kAccumulate ? " added" : " set")
                                  << (kTransposed ? ", transposed" : ""));
  Bits x = Random(s.rows() * s.in, 1, 1), dy = Random(s.rows() * s.out, 1, 2);
  std::vector<float> dw(s.experts() * s.out * s.in, kAccumulate ? 0.5F : NAN);
  Bits &a = kTransposed ? x : dy, &b = kTransposed ? dy : x;
  const int64_t m = kTransposed ? s.in : s.out, n = kTransposed ? s.out : s.in;
  DwParams p = {};
  p.a = {a.data(), 2, 2, {m, s.rows()}, {1, m}, {64, kDepth}};
  p.b = {b.data(), 2, 2, {n, s.rows()}, {1, n}, {64, kDepth / 2}};
  p.dw = {{dw.data(),
           4,
           3,
           {s.in, s.out, s.experts()},
           {1, s.in, s.in * s.out},
           {kStepColumns, kTransposed ? kStepColumns : 64, 1}},
          static_cast<int>(m),
          static_cast<int>(n)};
  std::vector<int64_t> offsets(s.experts() * stride + 1, 1);
  for (size_t e = 0; e < s.offsets.size(); ++e) offsets[e * stride] = s.offsets[e];
  p.offsets = {offsets.data(), stride, stride};
  p.rows = s.rows();
  p.experts = static_cast<int>(s.experts());
  p.pairs = static_cast<int>((m + kCluster * DwTile::kM - 1) / (kCluster * DwTile::kM));
  p.columns = static_cast<int>((n + DwTile::kN - 1) / DwTile::kN);
  emulation::Run({4, kCluster, kThreads}, 8, [&] { DwKernel<kAccumulate, kTransposed>(p); });
  std::vector<double> expected(dw.size(), kAccumulate ? 0.5 : 0);
  for (int64_t r = 0; r < s.rows(); ++r) {
    double* const matrix = expected.data() + s.ExpertOf(r) * s.out * s.in;
    for (int64_t o = 0; o < s.out; ++o) {
      for (int64_t i = 0; i < s.in; ++i)
        matrix[o * s.in + i] += double{ToFloat(dy[r * s.out + o])} * ToFloat(x[r * s.in + i]);
    }
  }
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(dw[i], expected[i], 1e-3) << i;
}
TEST(HopperExperts, GradientsOfMatrices) {
  for (const Sizes& s : kSizes) {
    if (s.in > 300) continue;
    CheckDw<false, false>(s);
    CheckDw<true, true>(s);
  }
  CheckDw<true, false>(kSizes[1], 3);
  CheckDw<false, true>(kSizes[1]);
}

}  // namespace
}  // namespace lacuna::cuda::hopper
