// Operators on CUDA against the CPU (core/cuda/parity.h), at sizes of training and at odd ones.
#include <gtest/gtest.h>

#include <cmath>

#include "core/ops/adamw.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/matmul.h"
#include "core/ops/random_normal.h"
#include "core/ops/reduce.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rope.h"
#include "core/ops/swiglu.h"
#include "core/random.h"
#include "core/rope_table.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::CudaStream;
using test::RandomTensor;

class CudaOps : public testing::TestWithParam<DType> {
 protected:
  DType dtype() const { return GetParam(); }
  Tensor Random(Shape shape, uint64_t seed, double scale = 1) const {
    return RandomTensor(std::move(shape), dtype(), seed, scale).To(CudaDevice());
  }
  static Tensor RandomF32(Shape shape, uint64_t seed, double scale = 1) {
    return RandomTensor(std::move(shape), DType::kF32, seed, scale).To(CudaDevice());
  }
  Tensor Empty(Shape shape) const { return Tensor::Empty(std::move(shape), dtype(), CudaDevice()); }
  static Tensor EmptyF32(Shape shape) {
    return Tensor::Empty(std::move(shape), DType::kF32, CudaDevice());
  }
  static Tensor Ints(std::vector<int32_t> values) {
    const auto n = static_cast<int64_t>(values.size());
    return Tensor::FromVector(values, {n}).To(CudaDevice());
  }
  static Tensor Number(double value) {
    return Tensor::FromVector(std::vector<double>{value}, {1}).To(CudaDevice());
  }
};

TEST_P(CudaOps, Elementwise) {
  const test::CudaParity parity;
  for (const int64_t n : {1, 7, 8, 4096, 100003}) {
    const Tensor a = Random({n}, 1), b = Random({n}, 2);
    Tensor y = Empty({n}), wide = EmptyF32({n});
    ops::Add({.a = a.Ref(), .b = b.Ref(), .y = y.MutableRef()}, CudaStream());
    ops::Fill({.y = y.MutableRef(), .value = -0.75}, CudaStream());
    ops::Cast({.x = a.Ref(), .y = wide.MutableRef()}, CudaStream());
    ops::Cast({.x = wide.Ref(), .y = y.MutableRef()}, CudaStream());
    ops::SigmoidFwd({.x = a.Ref(), .y = y.MutableRef()}, CudaStream());
    ops::SigmoidFwd({.x = a.Ref(), .y = wide.MutableRef()}, CudaStream());
    ops::SigmoidBwd({.y = wide.Ref(), .dy = RandomF32({n}, 3).Ref(), .dx = y.MutableRef()},
                    CudaStream());
  }
  // Rows that do not start at a multiple of 16 bytes.
  Tensor y = Empty({50, 7});
  ops::Add({.a = Random({51, 7}, 1).Slice(1, 51).Ref(),
            .b = Random({50, 7}, 2).Ref(),
            .y = y.MutableRef()},
           CudaStream());
}

TEST_P(CudaOps, MatMul) {
  struct Case {
    int64_t m, n, k;
  };
  const test::CudaParity parity;
  for (const Case& c : {Case{5, 7, 3}, Case{1, 1, 1}, Case{64, 33, 100}, Case{3, 4, 0},
                        Case{0, 4, 3}, Case{130, 2, 65}, Case{512, 768, 256}}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        const Tensor a = Random(ta ? Shape{c.k, c.m} : Shape{c.m, c.k}, 1),
                     b = Random(tb ? Shape{c.n, c.k} : Shape{c.k, c.n}, 2);
        Tensor y = Empty({c.m, c.n}), sum = RandomF32({c.m, c.n}, 3);
        ops::MatMul({a.Ref(), b.Ref(), {}, y.MutableRef(), ta, tb, 0.5, 0}, CudaStream());
        ops::MatMul({a.Ref(), b.Ref(), {}, sum.MutableRef(), ta, tb, 1, 1}, CudaStream());
        const Tensor add = Random({c.m, c.n}, 4);
        ops::MatMul({a.Ref(), b.Ref(), add.Ref(), y.MutableRef(), ta, tb}, CudaStream());
      }
    }
  }
}

TEST_P(CudaOps, RmsNorm) {
  const test::CudaParity parity;
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 7}, Shape{5, 8}, Shape{130, 192}, Shape{9, 1000},
                             Shape{1027, 2560}, Shape{6, 4096}, Shape{3, 9000}, Shape{0, 64}}) {
    const Tensor x = Random(shape, 1), w = Random({shape[1]}, 2), dy = Random(shape, 3);
    Tensor y = Empty(shape), rstd = EmptyF32({shape[0]}), dx = Empty(shape),
           dw = RandomF32({shape[1]}, 4);
    ops::RmsNormFwd({x.Ref(), w.Ref(), y.MutableRef(), rstd.MutableRef(), 1e-5}, CudaStream());
    // Alone, with another's gradient, and in its memory.
    const Tensor add = Random(shape, 5);
    ops::RmsNormBwd({x.Ref(), w.Ref(), rstd.Ref(), dy.Ref(), {}, dx.MutableRef(), dw.MutableRef()},
                    CudaStream());
    ops::RmsNormBwd(
        {x.Ref(), w.Ref(), rstd.Ref(), dy.Ref(), add.Ref(), dx.MutableRef(), dw.MutableRef()},
        CudaStream());
    const TensorRef in_place = dx.MutableRef();
    ops::RmsNormBwd({x.Ref(), w.Ref(), rstd.Ref(), dy.Ref(), in_place, in_place, dw.MutableRef()},
                    CudaStream());
  }
}

TEST_P(CudaOps, Rope) {
  const test::CudaParity parity;
  struct Case {
    int64_t rows, heads, width, rotary;
  };
  for (const Case& c : {Case{5, 2, 6, 4}, Case{33, 3, 192, 64}, Case{100, 64, 192, 64},
                        Case{7, 1, 64, 64}, Case{4, 2, 16, 0}, Case{9, 5, 88, 48}}) {
    RopeTable table({.rotary_dims = c.rotary, .yarn_factor = 4}, DType::kF32, CudaDevice());
    table.Prepare(200);
    std::vector<int32_t> positions;
    for (int64_t n = 0; n < c.rows; ++n) positions.push_back(static_cast<int32_t>(n * 37 % 200));
    const Tensor p = Ints(positions);
    Tensor x = Random({c.rows, c.heads, c.width}, 1), y = Tensor::EmptyLike(x);
    for (const bool inverse : {false, true}) {
      ops::Rope({x.Ref(), p.Ref(), table.cos().Ref(), table.sin().Ref(), y.MutableRef(), inverse},
                CudaStream());
      const TensorRef in_place = x.MutableRef();
      ops::Rope({in_place, p.Ref(), table.cos().Ref(), table.sin().Ref(), in_place, inverse},
                CudaStream());
    }
  }
}

TEST_P(CudaOps, SwiGlu) {
  const test::CudaParity parity;
  for (const Shape& shape : {Shape{1, 1}, Shape{5, 7}, Shape{70000, 8}, Shape{300, 1536},
                             Shape{17, 6912}, Shape{0, 8}}) {
    const Tensor x = Random({shape[0], 2 * shape[1]}, 1, 3), dh = Random(shape, 2);
    Tensor h = Empty(shape), dx = Tensor::EmptyLike(x);
    ops::SwiGluFwd({x.Ref(), h.MutableRef()}, CudaStream());
    ops::SwiGluBwd({x.Ref(), dh.Ref(), dx.MutableRef()}, CudaStream());
  }
}

TEST_P(CudaOps, Embedding) {
  const test::CudaParity parity;
  for (const auto& [vocabulary, width, rows] : {std::array<int64_t, 3>{5, 7, 40},
                                                {1000, 256, 3000},
                                                {3, 2560, 500},
                                                {9, 8, 0},
                                                {1, 16, 4000},
                                                {128000, 64, 8192},
                                                {40, 24, 32},
                                                {2, 24, 33}}) {
    std::vector<int32_t> ids;
    for (int64_t n = 0; n < rows; ++n) {
      // As in text: few tokens make up most of it.
      const double u = PhiloxUniform(1, 2, static_cast<uint64_t>(n));
      ids.push_back(static_cast<int32_t>(u * u * u * static_cast<double>(vocabulary)));
    }
    const Tensor id = Ints(ids), w = Random({vocabulary, width}, 1), dy = Random({rows, width}, 2);
    Tensor y = Empty({rows, width}), dw = RandomF32({vocabulary, width}, 3);
    ops::EmbeddingFwd({w.Ref(), id.Ref(), y.MutableRef()}, CudaStream());
    ops::EmbeddingBwd({id.Ref(), dy.Ref(), dw.MutableRef()}, CudaStream());
  }
}

TEST_P(CudaOps, CrossEntropy) {
  const test::CudaParity parity;
  for (const auto& [rows, vocabulary] :
       {std::pair<int64_t, int64_t>{3, 5}, {40, 1000}, {7, 32768}, {2, 128000}, {3, 1}}) {
    for (const bool with_gradient : {false, true}) {
      Tensor logits = Random({rows, vocabulary}, 1, 4), loss = EmptyF32({rows});
      std::vector<int32_t> targets;
      for (int64_t n = 0; n < rows; ++n)
        targets.push_back(n % 5 == 1 ? -1 : static_cast<int32_t>(n * 7919 % vocabulary));
      ops::CrossEntropy(
          {logits.MutableRef(), Ints(targets).Ref(), loss.MutableRef(), with_gradient, 0.125},
          CudaStream());
    }
  }
}

TEST_P(CudaOps, AdamW) {
  const test::CudaParity parity;
  for (const DType moments : {DType::kF32, DType::kBF16}) {
    for (const int64_t n : {1, 9, 100000}) {
      Tensor master = RandomF32({n}, 1), value = dtype() == DType::kF32 ? master : Empty({n});
      Tensor m = RandomTensor({n}, moments, 2, 0.1).To(CudaDevice());
      Tensor v = Tensor::Empty({n}, moments, CudaDevice());
      ops::Fill({.y = v.MutableRef(), .value = 0.02}, CudaStream());
      ops::AdamW({.master = master.MutableRef(),
                  .value = value.MutableRef(),
                  .grad = RandomF32({n}, 4).Ref(),
                  .m = m.MutableRef(),
                  .v = v.MutableRef(),
                  .gradient_scale = Number(0.5).Ref(),
                  .learning_rate = 0.01,
                  .beta1 = 0.9,
                  .beta2 = 0.95,
                  .eps = 1e-8,
                  .weight_decay = 0.1,
                  .step = 3},
                 CudaStream());
    }
  }
}

TEST_P(CudaOps, Reductions) {
  const test::CudaParity parity;
  for (const int64_t n : {1, 7, 1000, 3000001}) {
    const Tensor x = Random({n}, 1, 0.1);
    Tensor squares = Tensor::Empty({1}, DType::kF64, CudaDevice()), sum = EmptyF32({1});
    ops::SumOfSquares({.x = x.Ref(), .result = squares.MutableRef()}, CudaStream());
    Tensor positive = Empty({n});  // no cancellation: its sum has a relative error
    ops::SigmoidFwd({.x = x.Ref(), .y = positive.MutableRef()}, CudaStream());
    ops::Sum({.x = positive.Ref(), .result = sum.MutableRef(), .scale = 0.5}, CudaStream());
    Tensor of_parts = Empty({n});
    ops::SumParts({.x = Random({4, n}, 2).Ref(), .y = of_parts.MutableRef()}, CudaStream());
  }
}

TEST_P(CudaOps, GiveTheSameBitsTwice) {
  const Tensor x = Random({3001, 640}, 1), w = Random({640}, 2), dy = Random({3001, 640}, 3);
  std::vector<int32_t> ids;
  for (int n = 0; n < 3001; ++n) ids.push_back(n * n % 11);
  Tensor results[2][3];
  for (auto& run : results) {
    Tensor y = Empty({3001, 640}), rstd = EmptyF32({3001}), dx = Empty({3001, 640});
    run[0] = Tensor::Zeros({640}, DType::kF32, CudaDevice());
    run[1] = Tensor::Zeros({11, 640}, DType::kF32, CudaDevice());
    run[2] = Tensor::Empty({1}, DType::kF64, CudaDevice());
    ops::RmsNormFwd({x.Ref(), w.Ref(), y.MutableRef(), rstd.MutableRef(), 1e-5}, CudaStream());
    ops::RmsNormBwd(
        {x.Ref(), w.Ref(), rstd.Ref(), dy.Ref(), {}, dx.MutableRef(), run[0].MutableRef()},
        CudaStream());
    ops::EmbeddingBwd({Ints(ids).Ref(), dy.Ref(), run[1].MutableRef()}, CudaStream());
    ops::SumOfSquares({.x = x.Ref(), .result = run[2].MutableRef()}, CudaStream());
  }
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(test::SameBits(results[0][i].To(kCpu), results[1][i].To(kCpu)));
}

INSTANTIATE_TEST_SUITE_P(All, CudaOps, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return NameOf(info.param); });

TEST(Cuda, RandomNumbersHaveTheCpusBits) {
  Tensor host = Tensor::Empty({10007}, DType::kF32),
         device = Tensor::Empty({10007}, DType::kF32, CudaDevice());
  ops::RandomNormal({.y = host.MutableRef(), .key = 7, .stream = 3, .std = 0.02}, kCpuStream);
  ops::RandomNormal({.y = device.MutableRef(), .key = 7, .stream = 3, .std = 0.02}, CudaStream());
  EXPECT_TRUE(test::SameBits(device.To(kCpu), host));
  Tensor part = Tensor::Empty({607}, DType::kF32, CudaDevice());
  ops::RandomNormal({.y = part.MutableRef(), .key = 7, .stream = 3, .std = 0.02, .first = 9400},
                    CudaStream());
  EXPECT_TRUE(test::SameBits(part.To(kCpu), host.Slice(9400, 10007)));
}

TEST(Cuda, AStepWithoutFactorChangesNothing) {
  Tensor master = RandomTensor({1000}, DType::kF32, 1).To(CudaDevice());
  Tensor m = Tensor::Zeros({1000}, DType::kF32, CudaDevice()), v = Tensor::ZerosLike(m);
  const Tensor before = master.To(kCpu).Clone();
  const Tensor squares = Tensor::FromVector(std::vector<double>{1, NAN, 2}, {3}).To(CudaDevice()),
               loss = Tensor::FromVector(std::vector<float>{1}, {1}).To(CudaDevice());
  Tensor factor = Tensor::Empty({1}, DType::kF64, CudaDevice());
  ops::ClipFactor({squares.Ref(), loss.Ref(), factor.MutableRef(), 1.0}, CudaStream());
  ops::AdamW({.master = master.MutableRef(),
              .value = master.MutableRef(),
              .grad = before.To(CudaDevice()).Ref(),
              .m = m.MutableRef(),
              .v = v.MutableRef(),
              .gradient_scale = factor.Ref(),
              .learning_rate = 0.01,
              .beta1 = 0.9,
              .beta2 = 0.95,
              .eps = 1e-8,
              .weight_decay = 0.1,
              .step = 1},
             CudaStream());
  EXPECT_TRUE(std::isnan(factor.ToDoubles()[0]));
  EXPECT_TRUE(test::SameBits(master.To(kCpu), before));
  EXPECT_TRUE(test::SameBits(m.To(kCpu), Tensor::Zeros({1000}, DType::kF32)));
}

TEST(Cuda, CopiesKeepTheirOrderAndWaitOnlyForTheHost) {
  const int64_t waits = NumHostWaits();
  Tensor values = RandomTensor({1 << 20}, DType::kF32, 1);
  const Tensor there = values.To(CudaDevice());
  const std::vector<double> expected = values.ToDoubles();
  values.Zero();  // the copy has its own staging memory
  Tensor clone = there.Clone();
  EXPECT_EQ(NumHostWaits(), waits);
  EXPECT_EQ(clone.ToDoubles(), expected);
  EXPECT_EQ(NumHostWaits(), waits + 1);
  clone.Zero();
  EXPECT_EQ(clone.ToDoubles()[12345], 0);
}

TEST(Cuda, ADTypeWithoutKernelsIsRefused) {
  const Tensor x = Tensor::Zeros({4, 4}, DType::kF64, CudaDevice());
  Tensor y = Tensor::EmptyLike(x), rstd = Tensor::Empty({4}, DType::kF64, CudaDevice());
  EXPECT_THROW(ops::RmsNormFwd({x.Ref(), x.Slice(0, 1).Reshape({4}).Ref(), y.MutableRef(),
                                rstd.MutableRef(), 1e-5},
                               CudaStream()),
               Error);
  EXPECT_THROW(ops::MatMul({x.Ref(), x.Ref(), {}, y.MutableRef()}, CudaStream()), Error);
}

}  // namespace
}  // namespace lacuna
