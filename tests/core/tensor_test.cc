// Tensors: views share memory, versions count writes, dtypes round as they should.
#include "core/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "autograd/saved_tensor.h"
#include "core/packed_sequences.h"

namespace lacuna {
namespace {

TEST(Tensor, ViewsShareMemory) {
  Tensor t = Tensor::FromVector(std::vector<float>{0, 1, 2, 3, 4, 5}, {3, 2});
  Tensor row = t.Slice(1, 2), flat = t.Reshape({-1}), middle = t.View(2, {2, 1});
  row.mutable_data<float>()[1] = 9;
  EXPECT_EQ(flat.data<float>()[3], 9);
  EXPECT_EQ(middle.data<float>()[1], 9);
  EXPECT_EQ(flat.shape(), (Shape{6}));
  Tensor copy = t.Clone();
  copy.mutable_data<float>()[0] = 7;
  EXPECT_EQ(t.data<float>()[0], 0);
}

TEST(Tensor, OverMemoryOfAnOwner) {
  auto memory = std::make_shared<std::vector<float>>(6, 2.0f);
  {
    Tensor t = Tensor::Over(memory->data(), {2, 3}, DType::kF32, memory);
    t.Slice(1, 2).mutable_data<float>()[2] = 5;
    EXPECT_EQ(memory.use_count(), 2);
    EXPECT_EQ(t.ToDoubles(), (std::vector<double>{2, 2, 2, 2, 2, 5}));
  }
  EXPECT_EQ(memory.use_count(), 1);
  EXPECT_THROW(Tensor::Over(memory->data(), {6}, DType::kF32, nullptr), Error);
}

TEST(Tensor, MisuseIsAnError) {
  Tensor t = Tensor::Zeros({2, 3}, DType::kF32);
  EXPECT_THROW(t.data<double>(), Error);
  EXPECT_THROW(t.Reshape({4}), Error);
  EXPECT_THROW(t.Reshape({-1, 4}), Error);
  EXPECT_THROW(t.Slice(1, 3), Error);
  EXPECT_THROW(t.View(4, {3}), Error);
  EXPECT_THROW(t.CopyFrom(Tensor::Zeros({3, 2}, DType::kF32)), Error);
  EXPECT_THROW(Tensor::FromVector(std::vector<float>{1, 2}, {3}), Error);
}

// It may be passed on, and read by nobody, also where it would have no elements.
TEST(Tensor, MetaHasAShapeAlone) {
  for (const int64_t rows : {0, 3}) {
    Tensor t = Tensor::Meta({rows, 2}, DType::kF64);
    EXPECT_TRUE(t.defined() && t.is_meta());
    EXPECT_TRUE(Tensor::MetaLike(t).is_meta());
    EXPECT_FALSE(Tensor::EmptyLike(t).is_meta());
    const Tensor view = t.Reshape({2, -1});
    EXPECT_TRUE(view.is_meta());
    EXPECT_EQ(view.shape(), (Shape{2, rows}));
    EXPECT_EQ(view.dtype(), DType::kF64);
    EXPECT_THROW(view.Ref(), Error);
    EXPECT_THROW(t.MutableRef(), Error);
    EXPECT_THROW(t.data<double>(), Error);
    EXPECT_THROW(t.ToDoubles(), Error);
  }
  Tensor t = Tensor::Meta({3, 2}, DType::kF64), real = Tensor::Zeros({3, 2}, DType::kF64);
  EXPECT_THROW(real.CopyFrom(t), Error);
  EXPECT_THROW(t.CopyFrom(real), Error);
  EXPECT_THROW(t.Zero(), Error);
  EXPECT_THROW(t.Clone(), Error);
}

TEST(Tensor, SavedTensorNoticesWrites) {
  Tensor t = Tensor::Zeros({4}, DType::kF32);
  const SavedTensor saved(t);
  EXPECT_NO_THROW(saved.get());
  t.Slice(0, 1).Zero();  // through another view of the same storage
  EXPECT_THROW(saved.get(), Error);
}

TEST(Tensor, EmptyDimensions) {
  const Tensor t = Tensor::Zeros({0, 5}, DType::kF64);
  EXPECT_EQ(t.numel(), 0);
  EXPECT_EQ(t.Reshape({5, 0}).numel(), 0);
  EXPECT_TRUE(t.ToDoubles().empty());
}

TEST(BFloat16, RoundsToNearestEven) {
  EXPECT_EQ(static_cast<float>(BFloat16(1.00390625f)), 1.0f);       // half way: to even
  EXPECT_EQ(static_cast<float>(BFloat16(1.01171875f)), 1.015625f);  // half way: to even
  EXPECT_EQ(static_cast<float>(BFloat16(1.004f)), 1.0078125f);
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_EQ(static_cast<float>(BFloat16(std::numeric_limits<float>::infinity())),
            std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isinf(static_cast<float>(BFloat16(3.4e38f))));
  EXPECT_EQ(static_cast<float>(BFloat16(-0.0f)), 0.0f);
}

TEST(PackedSequences, PositionsRestart) {
  const PackedSequences sequences({0, 2, 2, 5});
  EXPECT_EQ(sequences.positions().ToDoubles(), (std::vector<double>{0, 1, 0, 1, 2}));
  EXPECT_EQ(sequences.max_length(), 3);
  EXPECT_EQ(sequences.num_documents(), 3);
  EXPECT_THROW(PackedSequences({0, 3, 2}), Error);
  EXPECT_THROW(PackedSequences({1, 3}), Error);
}

}  // namespace
}  // namespace lacuna
