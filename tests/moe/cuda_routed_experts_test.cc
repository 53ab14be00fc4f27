// The experts' fused operators on CUDA: against the CPU's, at every size of tile, and with other work
// on the card.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/cuda/random_delay.h"
#include "moe/cuda/hopper/products.h"
#include "moe/grouped_matmul.h"
#include "moe/grouped_swiglu.h"
#include "moe/permute.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::CudaStream;
using test::OnDevice;
using test::RandomIds;
using test::RandomTensor;
using test::SameBits;

constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

Tensor Offsets(const std::vector<int64_t>& offsets) {
  return OnDevice(Tensor::FromVector(offsets, {static_cast<int64_t>(offsets.size())}));
}
// Filled with NaN: what a kernel leaves out is seen.
Tensor Poisoned(const Shape& shape, DType dtype) {
  const std::vector<double> nan(static_cast<size_t>(NumElements(shape)),
                                std::numeric_limits<double>::quiet_NaN());
  return OnDevice(Tensor::FromDoubles(nan, shape, dtype));
}

struct Experts {
  Tensor x, w, offsets;
};
Experts MakeExperts(const std::vector<int64_t>& offsets, int64_t in, int64_t width, DType dtype) {
  const auto experts = static_cast<int64_t>(offsets.size()) - 1;
  return {OnDevice(RandomTensor({offsets.back(), in}, dtype, 1)),
          OnDevice(RandomTensor({experts, 2 * width, in}, dtype, 2)), Offsets(offsets)};
}
struct Activations {
  Tensor z, h;
};
Activations Apply(const Experts& e) {
  Activations out{Poisoned({e.x.dim(0), e.w.dim(1)}, e.x.dtype()),
                  Poisoned({e.x.dim(0), e.w.dim(1) / 2}, e.x.dtype())};
  ops::GroupedSwiGlu({.x = e.x.Ref(),
                      .w = e.w.Ref(),
                      .offsets = e.offsets.Ref(),
                      .z = out.z.MutableRef(),
                      .h = out.h.MutableRef()},
                     CudaStream());
  return out;
}

TEST(CudaGroupedSwiGlu, EqualsTheCpu) {
  struct Case {
    int64_t in, width;
    std::vector<int64_t> offsets;
  };
  for (const Case& c : {Case{1, 1, {0, 1}}, Case{5, 7, {0, 3, 3, 10}}, Case{64, 128, {0, 128, 256}},
                        Case{72, 136, {0, 127, 256, 385}}, Case{136, 40, {0, 129, 129, 700}},
                        Case{264, 8, {0, 37, 350}}, Case{2560, 1536, {0, 341, 341, 700}}}) {
    for (const DType dtype : kTypes) {
      SCOPED_TRACE(testing::Message() << c.in << " -> " << c.width << " " << NameOf(dtype));
      const test::CudaParity parity;
      Apply(MakeExperts(c.offsets, c.in, c.width, dtype));
    }
  }
}

TEST(CudaGroupedSwiGlu, WithoutRows) {
  const Activations out = Apply(MakeExperts({0, 0, 0}, 8, 8, DType::kBF16));
  EXPECT_EQ(out.h.shape(), (Shape{0, 8}));
}

// An expert of every number of rows from none to more than two tiles of both blocks.
TEST(CudaGroupedSwiGlu, EveryNumberOfRows) {
  std::vector<int64_t> offsets = {0};
  for (int64_t rows = 0; rows <= 290; rows += rows < 40 ? 1 : 7)
    offsets.push_back(offsets.back() + rows);
  const Experts e = MakeExperts(offsets, 40, 24, DType::kBF16);
  const test::CudaParity parity;
  Apply(e);
}

// Rows of other experts, and rows past the last, may hold anything.
TEST(CudaGroupedSwiGlu, NaNsStayWithTheirRow) {
  Tensor x = RandomTensor({500, 72}, DType::kBF16, 1);
  x.Slice(130, 131).CopyFrom(Tensor::FromDoubles(
      std::vector<double>(72, std::numeric_limits<double>::quiet_NaN()), {1, 72}, DType::kBF16));
  Experts e = MakeExperts({0, 130, 140, 500}, 72, 40, DType::kBF16);
  e.x = OnDevice(x);
  const Activations out = Apply(e);
  const std::vector<double> h = out.h.To(kCpu).ToDoubles();
  for (size_t i = 0; i < h.size(); ++i) ASSERT_EQ(std::isnan(h[i]), i / 40 == 130) << i / 40;
}

// The last rows of an expert share a slice of the ragged depth with the next expert's.
TEST(CudaGroupedMatMulDw, NaNsStayWithTheirExpert) {
  for (const int64_t cut : {1, 15, 16, 17, 63, 64, 65, 130}) {
    Tensor x = RandomTensor({300, 72}, DType::kBF16, 1),
           dy = RandomTensor({300, 136}, DType::kBF16, 2);
    for (Tensor* t : {&x, &dy}) {
      t->Slice(cut, cut + 1)
          .CopyFrom(
              Tensor::FromDoubles(std::vector<double>(static_cast<size_t>(t->dim(1)),
                                                      std::numeric_limits<double>::quiet_NaN()),
                                  {1, t->dim(1)}, DType::kBF16));
    }
    Tensor dw = OnDevice(Tensor::Zeros({3, 136, 72}, DType::kF32));
    ops::GroupedMatMulDw({.dy = OnDevice(dy).Ref(),
                          .x = OnDevice(x).Ref(),
                          .offsets = Offsets({0, cut, cut + 1, 300}).Ref(),
                          .dw = dw.MutableRef()},
                         CudaStream());
    const std::vector<double> out = dw.To(kCpu).ToDoubles();
    for (size_t i = 0; i < out.size(); ++i)
      ASSERT_EQ(std::isnan(out[i]), i / (136 * 72) == 1) << cut << ": " << i;
  }
}

// Warps wait at random places: what is right only by luck of timing shows.
TEST(CudaGroupedProducts, TheSameBitsWithRandomDelays) {
  const Experts e = MakeExperts({0, 700, 700, 1100, 1101, 2000}, 520, 392, DType::kBF16);
  const auto run = [&] {
    const Activations out = Apply(e);
    Tensor dx = Poisoned(e.x.shape(), DType::kBF16), dw = Poisoned(e.w.shape(), DType::kF32);
    ops::GroupedMatMul({.x = out.z.Ref(),
                        .w = e.w.Ref(),
                        .offsets = e.offsets.Ref(),
                        .y = dx.MutableRef(),
                        .transpose_w = false},
                       CudaStream());
    ops::GroupedMatMulDw({.dy = out.z.Ref(),
                          .x = e.x.Ref(),
                          .offsets = e.offsets.Ref(),
                          .dw = dw.MutableRef(),
                          .accumulate = false},
                         CudaStream());
    return std::vector<Tensor>{out.z.To(kCpu), out.h.To(kCpu), dx.To(kCpu), dw.To(kCpu)};
  };
  const std::vector<Tensor> first = run();
  for (const Tensor& out : first) {
    for (const double v : out.ToDoubles()) ASSERT_TRUE(std::isfinite(v));
  }
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    cuda::hopper::SetRandomDelays(seed);
    const std::vector<Tensor> again = run();
    cuda::hopper::SetRandomDelays(0);
    for (size_t i = 0; i < first.size(); ++i)
      ASSERT_TRUE(SameBits(first[i], again[i])) << "seed " << seed << ", output " << i;
  }
}

// A second stream copies all the while; delays come from what it takes of the memory's bandwidth.
TEST(CudaGroupedSwiGlu, TheSameBitsBesideCopies) {
  const Experts e = MakeExperts({0, 700, 700, 1100, 1101, 2000}, 512, 384, DType::kBF16);
  const Activations first = Apply(e);
  Tensor from = OnDevice(RandomTensor({16 << 20}, DType::kF32, 5)), to = Tensor::EmptyLike(from);
  cudaStream_t other = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 1 + round % 3; ++i) {
      ASSERT_EQ(cudaMemcpyAsync(to.MutableRef().data, from.Ref().data,
                                static_cast<size_t>(from.bytes()), cudaMemcpyDeviceToDevice, other),
                cudaSuccess);
    }
    const Activations again = Apply(e);
    Tensor dw = OnDevice(Tensor::Zeros(e.w.shape(), DType::kF32)),
           dw_first = OnDevice(Tensor::Zeros(e.w.shape(), DType::kF32));
    for (Tensor* out : {&dw_first, &dw}) {
      ops::GroupedMatMulDw({.dy = again.z.Ref(),
                            .x = e.x.Ref(),
                            .offsets = e.offsets.Ref(),
                            .dw = out->MutableRef()},
                           CudaStream());
    }
    ASSERT_TRUE(SameBits(first.z.To(kCpu), again.z.To(kCpu))) << round;
    ASSERT_TRUE(SameBits(first.h.To(kCpu), again.h.To(kCpu))) << round;
    ASSERT_TRUE(SameBits(dw_first.To(kCpu), dw.To(kCpu))) << round;
  }
  ASSERT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

struct RoutedGradient {
  Tensor dz, wh, dw;
};
// Of `tokens` tokens that choose among 5 experts; outputs poisoned, dz in the place of z or not.
RoutedGradient RunRoutedSwiGluBwd(int64_t tokens, int64_t chosen, int64_t c, int64_t width,
                                  DType dtype, bool in_place) {
  const int64_t rows = tokens * chosen;
  const Tensor ids = OnDevice(RandomIds({tokens, chosen}, 5, 1)),
               dy = OnDevice(RandomTensor({rows, c}, dtype, 3)),
               down = OnDevice(RandomTensor({5, c, width}, dtype, 6)),
               w = OnDevice(RandomTensor({tokens, chosen}, DType::kF32, 4));
  Tensor z = OnDevice(RandomTensor({rows, 2 * width}, dtype, 2)),
         offsets = Tensor::Empty({6}, DType::kI64, CudaDevice()), position = Tensor::EmptyLike(ids);
  RoutedGradient out = {in_place ? z : Poisoned({rows, 2 * width}, dtype),
                        Poisoned({rows, width}, dtype), Poisoned({tokens, chosen}, DType::kF32)};
  ops::SortByExpert(
      {.ids = ids.Ref(), .offsets = offsets.MutableRef(), .position = position.MutableRef()},
      CudaStream());
  ops::RoutedSwiGluBwd({.dy = dy.Ref(),
                        .down = down.Ref(),
                        .offsets = offsets.Ref(),
                        .z = z.Ref(),
                        .position = position.Ref(),
                        .w = w.Ref(),
                        .dz = out.dz.MutableRef(),
                        .wh = out.wh.MutableRef(),
                        .dw = out.dw.MutableRef()},
                       CudaStream());
  return out;
}

// Widths and depths inside and outside what the Hopper kernel takes; fewer slices than it has steps.
TEST(CudaRoutedSwiGluBwd, EqualsTheCpu) {
  struct Case {
    int64_t tokens, chosen, c, width;
  };
  for (const Case& c : {Case{0, 2, 8, 8}, Case{1, 1, 1, 1}, Case{1, 1, 8, 8}, Case{9, 3, 5, 7},
                        Case{33, 2, 40, 264}, Case{400, 6, 72, 136}, Case{100, 6, 2560, 1536}}) {
    for (const DType dtype : kTypes) {
      SCOPED_TRACE(testing::Message()
                   << c.tokens << " x " << c.chosen << ", " << c.c << " -> " << c.width);
      const test::CudaParity parity;
      RunRoutedSwiGluBwd(c.tokens, c.chosen, c.c, c.width, dtype, /*in_place=*/false);
    }
  }
}

TEST(CudaRoutedSwiGluBwd, TheSameBitsInPlaceAndWithRandomDelays) {
  const auto run = [](bool in_place) {
    return RunRoutedSwiGluBwd(500, 4, 1536, 200, DType::kBF16, in_place);
  };
  const RoutedGradient first = run(false);
  for (uint32_t seed = 0; seed <= 20; ++seed) {
    cuda::hopper::SetRandomDelays(seed);
    const RoutedGradient again = run(/*in_place=*/true);
    cuda::hopper::SetRandomDelays(0);
    ASSERT_TRUE(SameBits(first.dz.To(kCpu), again.dz.To(kCpu))) << seed;
    ASSERT_TRUE(SameBits(first.wh.To(kCpu), again.wh.To(kCpu))) << seed;
    ASSERT_TRUE(SameBits(first.dw.To(kCpu), again.dw.To(kCpu))) << seed;
  }
}

}  // namespace
}  // namespace lacuna
