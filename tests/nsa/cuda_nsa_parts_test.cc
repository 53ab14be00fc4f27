// NSA's smaller kernels on CUDA against the CPU in f64: gathering, gates, phi's activation, statistics.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "nsa/block_gather.h"
#include "nsa/gate_combine.h"
#include "nsa/nsa_grid.h"
#include "nsa/nsa_statistics.h"
#include "nsa/phi_activation.h"
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

// From nearly 0 to nearly 1.
Tensor Gates(const Shape& shape) {
  std::vector<float> values(static_cast<size_t>(NumElements(shape)));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = 1 / (1 + std::exp(9.0F * std::sin(static_cast<float>(i))));
  return Tensor::FromVector(values, shape).To(CudaDevice());
}

class CudaNsaParts : public testing::TestWithParam<DType> {};

TEST_P(CudaNsaParts, GatherBlocks) {
  const DType dtype = GetParam();
  struct Sizes {
    std::vector<int32_t> cu;  // of documents
    int64_t groups, width, block, stride;
  };
  for (const auto& [cu, groups, width, block, stride] :
       std::initializer_list<Sizes>{{{0, 5}, 2, 8, 8, 4},
                                    {{0, 8}, 1, 8, 8, 4},
                                    {{0, 103}, 3, 5, 8, 4},
                                    {{0, 77}, 2, 16, 16, 16},
                                    {{0, 2048}, 4, 192, 32, 16},
                                    {{0, 5, 9}, 2, 8, 8, 4},
                                    {{0, 50, 51, 58, 58, 103, 111}, 3, 5, 8, 4},
                                    {{0, 40, 77, 200}, 2, 16, 16, 16},
                                    {{0, 31, 700, 1500, 1532, 2048}, 4, 192, 32, 16}}) {
    SCOPED_TRACE(std::to_string(cu.size() - 1) + " documents, " + std::to_string(cu.back()) +
                 " tokens");
    NsaConfig config;
    config.block = block;
    config.stride = stride;
    const NsaGrid grid(PackedSequences(cu).To(CudaDevice()), config);
    const int64_t tokens = cu.back(), blocks = grid.num_compressed();
    const TensorRef cmp_tokens = grid.cmp_tokens.Ref(), token_blocks = grid.token_blocks.Ref();
    const Tensor x = Random({tokens, groups, width}, dtype, 1),
                 pos = Random({block, width}, dtype, 2);
    Tensor gathered = Empty({blocks * groups, block * width}, dtype);
    const Tensor dblocks = Random({blocks * groups, block * width}, dtype, 3);
    Tensor dx = Empty({tokens, groups, width}, dtype),
           dpos = Random({block, width}, DType::kF32, 4);
    Tensor y = Empty({blocks, groups, width}, dtype);
    const Tensor dy = Random({blocks, groups, width}, dtype, 5);
    test::CudaParity parity;
    ops::GatherBlocksFwd({x.Ref(), pos.Ref(), gathered.MutableRef(), cmp_tokens, block, stride},
                         CudaStream());
    ops::GatherBlocksFwd({x.Ref(), {}, gathered.MutableRef(), cmp_tokens, block, stride},
                         CudaStream());
    ops::GatherBlocksBwd({dblocks.Ref(), dx.MutableRef(), dpos.MutableRef(), cmp_tokens,
                          token_blocks, block, stride},
                         CudaStream());
    ops::GatherBlocksBwd(
        {dblocks.Ref(), dx.MutableRef(), {}, cmp_tokens, token_blocks, block, stride},
        CudaStream());
    ops::BlockMeanFwd({x.Ref(), y.MutableRef(), cmp_tokens, block, stride}, CudaStream());
    ops::BlockMeanBwd({dy.Ref(), dx.MutableRef(), token_blocks, block, stride}, CudaStream());
  }
}

TEST_P(CudaNsaParts, GateCombine) {
  const DType dtype = GetParam();
  for (const auto& [rows, heads, width] : std::initializer_list<std::array<int64_t, 3>>{
           {1, 1, 1}, {7, 3, 5}, {33, 5, 24}, {1024, 16, 128}}) {
    SCOPED_TRACE(std::to_string(rows) + " rows");
    const Tensor gate = Gates({rows, heads, 3});
    const auto branch = [&, r = rows, h = heads, w = width](uint64_t seed) {
      return Random({r, h, w}, dtype, seed);
    };
    const Tensor cmp = branch(2), slc = branch(3), win = branch(4), d_o = branch(5),
                 lse = Random({rows, heads}, DType::kF32, 6);
    Tensor o = Tensor::EmptyLike(cmp), dgate = Tensor::EmptyLike(gate),
           delta = Empty({3, rows, heads}, DType::kF32), weighted_lse = Tensor::EmptyLike(delta);
    test::CudaParity parity;
    ops::GateCombineFwd({gate.Ref(), cmp.Ref(), slc.Ref(), win.Ref(), o.MutableRef()},
                        CudaStream());
    ops::GateCombineBwd(
        {gate.Ref(), cmp.Ref(), slc.Ref(), win.Ref(), lse.Ref(), lse.Ref(), lse.Ref(), d_o.Ref(),
         dgate.MutableRef(), delta.MutableRef(), weighted_lse.MutableRef()},
        CudaStream());
  }
}

TEST(CudaNsaStatistics, EqualTheCpus) {
  for (const int64_t tokens : {0, 1, 130, 9000}) {
    constexpr int64_t kGroups = 3, kSelected = 4, kBlock = 16;
    const Tensor gate = Random({tokens, 6, 3}, DType::kF32, 1),
                 entropy = Random({tokens, kGroups}, DType::kF32, 2);
    std::vector<int32_t> blocks, positions;
    for (int64_t t = 0; t < tokens; ++t) {
      positions.push_back(static_cast<int32_t>(t % 700));
      for (int64_t i = 0; i < kGroups * kSelected; ++i)
        blocks.push_back(static_cast<int32_t>(i % kSelected > t % 5 ? -1 : (i * t) % 40));
    }
    const Tensor lists = Tensor::FromVector(blocks, {tokens, kGroups, kSelected}).To(CudaDevice()),
                 at = Tensor::FromVector(positions, {tokens}).To(CudaDevice());
    Tensor sums = Empty({kNumNsaStatistics}, DType::kF64), again = Tensor::EmptyLike(sums);
    test::CudaParity parity;
    for (Tensor* out : {&sums, &again}) {
      ops::NsaStatistics({gate.Ref(), entropy.Ref(), lists.Ref(), at.Ref(), out->MutableRef(),
                          kBlock, /*window=*/50},
                         CudaStream());
    }
    EXPECT_TRUE(test::SameBits(sums.To(kCpu), again.To(kCpu)));
  }
}

TEST_P(CudaNsaParts, PhiActivation) {
  const DType dtype = GetParam();
  for (const PhiActivation kind : {PhiActivation::kSilu, PhiActivation::kGeluTanh}) {
    for (const int64_t n : {1, 13, 4096 * 384}) {
      const Tensor a = Random({n}, dtype, 1);
      Tensor y = Tensor::EmptyLike(a), dy = Random({n}, dtype, 2), da = Tensor::EmptyLike(a);
      test::CudaParity parity;
      ops::PhiActivationFwd({a.Ref(), y.MutableRef(), kind}, CudaStream());
      ops::PhiActivationBwd({a.Ref(), dy.Ref(), da.MutableRef(), kind}, CudaStream());
      ops::PhiActivationBwd({a.Ref(), dy.Ref(), dy.MutableRef(), kind}, CudaStream());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaNsaParts, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

}  // namespace
}  // namespace lacuna
