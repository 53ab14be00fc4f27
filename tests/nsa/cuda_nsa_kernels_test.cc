// NSA's choice of blocks and attention to them on CUDA against the CPU in f64, over their edges;
// packed documents and repeated runs give the same bits.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/functions/attention.h"
#include "core/cuda/random_delay.h"
#include "core/ops/attention.h"
#include "nsa/nsa_grid.h"
#include "nsa/select_blocks.h"
#include "nsa/selected_attention.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::CudaStream;

Tensor Random(Shape shape, DType dtype, uint64_t seed) {
  return test::RandomTensor(std::move(shape), dtype, seed).To(CudaDevice());
}
Tensor Empty(Shape shape, DType dtype) {
  return Tensor::Empty(std::move(shape), dtype, CudaDevice());
}

class CudaNsaKernels : public testing::TestWithParam<DType> {};

const NsaConfig kSmall{.block = 8,
                       .stride = 4,
                       .select_block = 16,
                       .num_selected = 4,
                       .num_init = 1,
                       .num_local = 2,
                       .window = 10};

struct Case {
  NsaConfig config;
  std::vector<int32_t> lengths;
  int64_t heads, groups, dk, dv;
};

NsaConfig With(int64_t block, int64_t stride, int64_t select_block, int64_t n) {
  NsaConfig config = kSmall;
  config.block = block;
  config.stride = stride;
  config.select_block = select_block;
  config.num_selected = n;
  return config;
}

const std::vector<Case> kCases = {
    {kSmall, {170, 6, 0, 93}, 4, 2, 8, 6},
    {kSmall, {5, 1, 16}, 2, 1, 5, 3},
    {With(8, 8, 8, 6), {200, 31}, 6, 6, 16, 16},               // G = H, l = d = l'
    {With(32, 16, 64, 5), {1000, 1, 65, 400}, 16, 2, 64, 48},  //
    {With(16, 4, 48, 3), {333}, 40, 2, 24, 40},                // l' no multiple of 64
    {With(64, 16, 128, 4), {900}, 70, 1, 8, 8},                // l' and a group beyond a tile
    {With(32, 16, 64, 16), {2048, 300}, 16, 1, 192, 128},      // training width
    // Hopper's kernels: groups of 8, 16 and 32 heads, documents of all sorts.
    {With(32, 16, 64, 6), {700, 1, 65, 0, 403}, 32, 4, 192, 128},
    {With(32, 16, 64, 5), {900, 64, 12}, 32, 2, 128, 128},
    {With(32, 16, 64, 4), {31, 777}, 64, 2, 192, 128},
    {With(32, 16, 64, 4), {70, 1, 515}, 64, 1, 192, 128},  // and of 64
    // What else Hopper's kernel has: other groups and widths, sums across warps, key tiles that
    // selection blocks do not fill, scores that do not fit in shared memory.
    {With(32, 16, 64, 6), {150, 1, 0, 300, 31, 1100}, 64, 2, 128, 128},
    {With(64, 16, 128, 5), {31, 900}, 64, 1, 192, 128},
    {With(16, 4, 48, 7), {700, 16, 15}, 16, 1, 64, 64},
    {With(4, 4, 4, 9), {1800, 3}, 8, 1, 192, 128},
};

std::vector<int32_t> Cumulated(const std::vector<int32_t>& lengths) {
  std::vector<int32_t> cu = {0};
  for (const int32_t length : lengths) cu.push_back(cu.back() + length);
  return cu;
}

struct Selection {
  Tensor blocks, scores, entropy;
};

// The chain that chooses: lse of the compressed rows, then the lists.
Selection Select(const Case& c, const NsaGrid& grid, const Tensor& q, const Tensor& k_cmp,
                 bool optional = true) {
  const double scale = 1 / std::sqrt(static_cast<double>(c.dk));
  Tensor o = Empty({q.dim(0), c.heads, c.dk}, q.dtype()),
         lse = Empty({q.dim(0), c.heads}, DType::kF32);
  ops::AttentionFwd({.q = q.Ref(),
                     .k = k_cmp.Ref(),
                     .v = k_cmp.Ref(),
                     .ranges = grid.cmp_ranges.Ref(),
                     .cu_queries = grid.cu_queries.Ref(),
                     .cu_keys = grid.cu_cmp.Ref(),
                     .o = o.MutableRef(),
                     .lse = lse.MutableRef(),
                     .scale = scale},
                    CudaStream());
  Selection result{Empty({q.dim(0), c.groups, c.config.num_selected}, DType::kI32), {}, {}};
  if (optional) {
    result.scores = Empty({q.dim(0), c.groups, grid.max_select_blocks}, DType::kF32);
    result.entropy = Empty({q.dim(0), c.groups}, DType::kF32);
  }
  ops::SelectBlocks({.q = q.Ref(),
                     .k_cmp = k_cmp.Ref(),
                     .lse = lse.Ref(),
                     .ranges = grid.cmp_ranges.Ref(),
                     .positions = grid.positions.Ref(),
                     .cu_queries = grid.cu_queries.Ref(),
                     .cu_keys = grid.cu_cmp.Ref(),
                     .blocks = result.blocks.MutableRef(),
                     .scores = optional ? result.scores.MutableRef() : TensorRef(),
                     .entropy = optional ? result.entropy.MutableRef() : TensorRef(),
                     .scale = scale,
                     .block = c.config.block,
                     .stride = c.config.stride,
                     .select_block = c.config.select_block,
                     .num_init = c.config.num_init,
                     .num_local = c.config.num_local},
                    CudaStream());
  return result;
}

struct Inputs {
  Tensor q, k_cmp, k, v, d_o;
};
Inputs RandomInputs(const Case& c, const NsaGrid& grid, DType dtype, uint64_t seed) {
  const int64_t queries = grid.positions.dim(0), n = grid.host_cu_seqlens.back();
  return {Random({queries, c.heads, c.dk}, dtype, seed),
          Random({grid.num_compressed(), c.groups, c.dk}, dtype, seed + 1),
          Random({n, c.groups, c.dk}, dtype, seed + 2),
          Random({n, c.groups, c.dv}, dtype, seed + 3),
          Random({queries, c.heads, c.dv}, dtype, seed + 4)};
}

// o, lse, dq, dk, dv.
std::vector<Tensor> Attend(const Case& c, const NsaGrid& grid, const Inputs& in,
                           const Tensor& blocks) {
  const double scale = 1 / std::sqrt(static_cast<double>(c.dk));
  Tensor o = Tensor::EmptyLike(in.d_o), lse = Empty({in.q.dim(0), c.heads}, DType::kF32);
  ops::SelectedAttentionFwd({.q = in.q.Ref(),
                             .k = in.k.Ref(),
                             .v = in.v.Ref(),
                             .blocks = blocks.Ref(),
                             .positions = grid.positions.Ref(),
                             .cu_queries = grid.cu_queries.Ref(),
                             .cu_keys = grid.cu_seqlens.Ref(),
                             .o = o.MutableRef(),
                             .lse = lse.MutableRef(),
                             .scale = scale,
                             .select_block = c.config.select_block},
                            CudaStream());
  Tensor dq = Tensor::EmptyLike(in.q), dk = Tensor::EmptyLike(in.k), dv = Tensor::EmptyLike(in.v);
  ops::SelectedAttentionBwd({.q = in.q.Ref(),
                             .k = in.k.Ref(),
                             .v = in.v.Ref(),
                             .blocks = blocks.Ref(),
                             .positions = grid.positions.Ref(),
                             .cu_queries = grid.cu_queries.Ref(),
                             .cu_keys = grid.cu_seqlens.Ref(),
                             .o = o.Ref(),
                             .lse = lse.Ref(),
                             .d_o = in.d_o.Ref(),
                             .dq = dq.MutableRef(),
                             .dk = dk.MutableRef(),
                             .dv = dv.MutableRef(),
                             .scale = scale,
                             .select_block = c.config.select_block},
                            CudaStream());
  return {o, lse, dq, dk, dv};
}

NsaGrid GridOf(const Case& c) {
  return NsaGrid(PackedSequences(Cumulated(c.lengths)).To(CudaDevice()), c.config);
}

TEST_P(CudaNsaKernels, SelectionAndSelectedAttention) {
  uint64_t seed = 0;
  for (const Case& c : kCases) {
    SCOPED_TRACE("case " + std::to_string(&c - kCases.data()));
    const NsaGrid grid = GridOf(c);
    const Inputs in = RandomInputs(c, grid, GetParam(), seed += 10);
    test::CudaParity parity;
    const Selection selection = Select(c, grid, in.q, in.k_cmp);
    Attend(c, grid, in, selection.blocks);
    EXPECT_TRUE(test::SameBits(selection.blocks.To(kCpu),
                               Select(c, grid, in.q, in.k_cmp, false).blocks.To(kCpu)));
  }
}

// Forward and backward over ranges of keys.
void AttendRanges(const Case& c, const Inputs& in, const Tensor& k, const Tensor& v,
                  const AttentionRanges& ranges) {
  const double scale = 1 / std::sqrt(static_cast<double>(c.dk));
  const Tensor d_o = Random({in.q.dim(0), c.heads, v.dim(2)}, in.q.dtype(), 90);
  Tensor o = Tensor::EmptyLike(d_o), lse = Empty({in.q.dim(0), c.heads}, DType::kF32);
  ops::AttentionFwd({.q = in.q.Ref(),
                     .k = k.Ref(),
                     .v = v.Ref(),
                     .ranges = ranges.ranges.Ref(),
                     .cu_queries = ranges.cu_queries.Ref(),
                     .cu_keys = ranges.cu_keys.Ref(),
                     .o = o.MutableRef(),
                     .lse = lse.MutableRef(),
                     .scale = scale},
                    CudaStream());
  Tensor dq = Tensor::EmptyLike(in.q), dk = Tensor::EmptyLike(k), dv = Tensor::EmptyLike(v);
  ops::AttentionBwd({.q = in.q.Ref(),
                     .k = k.Ref(),
                     .v = v.Ref(),
                     .ranges = ranges.ranges.Ref(),
                     .cu_queries = ranges.cu_queries.Ref(),
                     .cu_keys = ranges.cu_keys.Ref(),
                     .o = o.Ref(),
                     .lse = lse.Ref(),
                     .d_o = d_o.Ref(),
                     .dq = dq.MutableRef(),
                     .dk = dk.MutableRef(),
                     .dv = dv.MutableRef(),
                     .scale = scale},
                    CudaStream());
}

// Pieces 0 and 3 of 4, or 1 and 2 (nn/context_share.h): documents without a query, keys that no query
// sees, blocks that no query chose.
TEST_P(CudaNsaKernels, QueriesOfOneOfTwoRanks) {
  for (const size_t i : {0, 3, 6, 7, 8, 9}) {
    for (const int rank : {0, 1}) {
      const Case& c = kCases[i];
      SCOPED_TRACE(testing::Message() << "case " << i << " rank " << rank);
      const PackedSequences sequences = PackedSequences(Cumulated(c.lengths)).To(CudaDevice());
      std::vector<int32_t> rows;
      for (int32_t row = 0; row < sequences.num_rows(); ++row) {
        const int64_t piece = 4 * row / sequences.num_rows();
        if ((piece == 0 || piece == 3) == (rank == 0)) rows.push_back(row);
      }
      const RowSubset queries(sequences, rows, "rank");
      const NsaGrid grid(sequences, c.config, &queries);
      const Inputs in = RandomInputs(c, grid, GetParam(), 500 + i);
      const test::CudaParity parity;
      Attend(c, grid, in, Select(c, grid, in.q, in.k_cmp).blocks);
      const Tensor v_cmp = Random({in.k_cmp.dim(0), c.groups, c.dv}, GetParam(), 91);
      AttendRanges(c, in, in.k_cmp, v_cmp, {grid.cmp_ranges, grid.cu_queries, grid.cu_cmp});
      AttendRanges(c, in, in.k, in.v, {grid.win_ranges, grid.cu_queries, grid.cu_seqlens});
      AttendRanges(c, in, in.k, in.v, CausalRanges(sequences, /*window=*/0, &queries));
    }
  }
}

TEST_P(CudaNsaKernels, PackedDocumentsAreBitwiseAloneAndRunsAlike) {
  // The last: sums of keys' gradients that are taken in turns of groups, but for a document alone.
  std::vector<Case> cases = {{With(32, 16, 64, 16), {2000, 2100, 1900, 2000, 2000}, 128, 2, 8, 8}};
  for (const size_t i : {0, 3, 4, 6, 7, 8, 9, 10, 11}) cases.insert(cases.end() - 1, kCases[i]);
  for (const Case& c : cases) {
    const NsaGrid grid = GridOf(c);
    const Inputs in = RandomInputs(c, grid, GetParam(), 700);
    const Tensor blocks = Select(c, grid, in.q, in.k_cmp).blocks;
    const std::vector<Tensor> together = Attend(c, grid, in, blocks),
                              again = Attend(c, grid, in, blocks);
    for (size_t i = 0; i < together.size(); ++i)
      EXPECT_TRUE(test::SameBits(together[i].To(kCpu), again[i].To(kCpu))) << "tensor " << i;
    for (size_t d = 0; d < c.lengths.size(); ++d) {
      const int64_t begin = grid.host_cu_seqlens[d], end = grid.host_cu_seqlens[d + 1];
      Case alone_case = c;
      alone_case.lengths.assign(1, c.lengths[d]);
      const NsaGrid alone_grid = GridOf(alone_case);
      const auto rows = [&](const Tensor& x) { return x.Slice(begin, end); };
      const Inputs alone{rows(in.q), in.k_cmp.Slice(grid.host_cu_cmp[d], grid.host_cu_cmp[d + 1]),
                         rows(in.k), rows(in.v), rows(in.d_o)};
      const Tensor alone_blocks = Select(alone_case, alone_grid, alone.q, alone.k_cmp).blocks;
      EXPECT_TRUE(test::SameBits(rows(blocks).To(kCpu), alone_blocks.To(kCpu)));
      const std::vector<Tensor> out = Attend(alone_case, alone_grid, alone, alone_blocks);
      for (size_t i = 0; i < out.size(); ++i)
        EXPECT_TRUE(test::SameBits(rows(together[i]).To(kCpu), out[i].To(kCpu)))
            << "document " << d << " tensor " << i;
    }
  }
}

TEST(CudaNsaKernelsBesides, SelectedAttentionHasTheSameBitsWithRandomDelays) {
  const Case& c = kCases[7];
  const NsaGrid grid = GridOf(c);
  const Inputs in = RandomInputs(c, grid, DType::kBF16, 900);
  const Tensor blocks = Select(c, grid, in.q, in.k_cmp).blocks;
  const std::vector<Tensor> first = Attend(c, grid, in, blocks);
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    cuda::hopper::SetRandomDelays(seed);
    const std::vector<Tensor> again = Attend(c, grid, in, blocks);
    cuda::hopper::SetRandomDelays(0);
    for (size_t i = 0; i < first.size(); ++i)
      ASSERT_TRUE(test::SameBits(first[i].To(kCpu), again[i].To(kCpu))) << seed << " " << i;
  }
}

// Warps wait at random places: what is right only by luck of timing shows.
TEST(CudaHopperSelectBlocks, TheSameBitsWithRandomDelays) {
  for (const Case& c : {kCases[3], kCases[6], kCases[10], kCases[11], kCases[13]}) {
    const NsaGrid grid = GridOf(c);
    const Inputs in = RandomInputs(c, grid, DType::kBF16, 900);
    const Selection first = Select(c, grid, in.q, in.k_cmp);
    for (uint32_t seed = 1; seed <= 20; ++seed) {
      cuda::hopper::SetRandomDelays(seed);
      const Selection again = Select(c, grid, in.q, in.k_cmp);
      cuda::hopper::SetRandomDelays(0);
      ASSERT_TRUE(test::SameBits(first.blocks.To(kCpu), again.blocks.To(kCpu))) << "seed " << seed;
      ASSERT_TRUE(test::SameBits(first.scores.To(kCpu), again.scores.To(kCpu))) << "seed " << seed;
    }
  }
}

// Equal keys give equal scores inside: the free places go to the lowest blocks. NaN comes last.
TEST_P(CudaNsaKernels, TiesGoToTheLowestIndexNaNLast) {
  const std::vector<int32_t> expected = {0, 1, 2, 3, 30, 31};
  for (const Case& c : {Case{With(16, 16, 16, 6), {512}, 4, 2, 32, 32},
                        Case{With(16, 16, 16, 6), {512}, 16, 1, 64, 64}}) {
    const NsaGrid grid = GridOf(c);
    const Tensor q = Random({512, c.heads, c.dk}, GetParam(), 1);
    const Shape keys = {grid.num_compressed(), c.groups, c.dk};
    const Tensor zeros = Tensor::Zeros(keys, GetParam(), CudaDevice());
    const Tensor blocks = Select(c, grid, q, zeros).blocks.To(kCpu);
    const int32_t* last = blocks.data<int32_t>() + 511 * c.groups * 6;
    for (int64_t i = 0; i < c.groups * 6; ++i)
      EXPECT_EQ(last[i], expected[static_cast<size_t>(i % 6)]);

    // One NaN query makes all its scores NaN; its list is that of equal scores.
    std::vector<double> values = q.ToDoubles();
    values.back() = NAN;
    const Tensor with_nan =
        Tensor::FromDoubles(values, {512, c.heads, c.dk}, GetParam()).To(CudaDevice());
    const Tensor nan_blocks =
        Select(c, grid, with_nan, Random(keys, GetParam(), 3)).blocks.To(kCpu);
    const int32_t* of_nan = nan_blocks.data<int32_t>() + (511 * c.groups + c.groups - 1) * 6;
    for (size_t i = 0; i < 6; ++i) EXPECT_EQ(of_nan[i], expected[i]);
  }
}

// One query that continues a cache with more keys than the query's document has rows.
TEST_P(CudaNsaKernels, DecodeStep) {
  const Case c{With(32, 16, 64, 8), {1}, 16, 2, 192, 128};
  for (const int32_t length : {1, 31, 64, 1500}) {
    SCOPED_TRACE(length);
    const auto ints = [](std::vector<int32_t> values, Shape shape) {
      return Tensor::FromVector(values, std::move(shape)).To(CudaDevice());
    };
    const auto compressed = static_cast<int32_t>(NumCompressed(length, 32, 16));
    NsaGrid grid = GridOf(c);
    grid.cmp_ranges = ints({0, compressed}, {1, 2});
    grid.cu_cmp = ints({0, compressed}, {2});
    grid.positions = ints({length - 1}, {1});
    grid.max_select_blocks = (length + 63) / 64;
    const Tensor q = Random({1, c.heads, c.dk}, GetParam(), 1),
                 k_cmp = Random({compressed, c.groups, c.dk}, GetParam(), 2),
                 k = Random({length, c.groups, c.dk}, GetParam(), 3),
                 v = Random({length, c.groups, c.dv}, GetParam(), 4);
    Tensor o = Empty({1, c.heads, c.dv}, GetParam()), lse = Empty({1, c.heads}, DType::kF32);
    test::CudaParity parity;
    const Selection selection = Select(c, grid, q, k_cmp);
    ops::SelectedAttentionFwd({.q = q.Ref(),
                               .k = k.Ref(),
                               .v = v.Ref(),
                               .blocks = selection.blocks.Ref(),
                               .positions = grid.positions.Ref(),
                               .cu_queries = grid.cu_queries.Ref(),
                               .cu_keys = ints({0, length}, {2}).Ref(),
                               .o = o.MutableRef(),
                               .lse = lse.MutableRef(),
                               .scale = 0.07,
                               .select_block = 64},
                              CudaStream());
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaNsaKernels, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

}  // namespace
}  // namespace lacuna
