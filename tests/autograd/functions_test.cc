// Every rule of autograd/functions against central differences in f64 (attention has a file of its
// own).
#include <gtest/gtest.h>

#include "autograd/functions/activation.h"
#include "autograd/functions/embedding.h"
#include "autograd/functions/linear.h"
#include "autograd/functions/linear_cross_entropy.h"
#include "autograd/functions/norm.h"
#include "autograd/functions/rope.h"
#include "core/packed_sequences.h"
#include "tests/support/gradcheck.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::GradCheck;
using test::RandomParameter;
using test::RandomTensor;

TEST(Gradients, Linear) {
  Parameter w = RandomParameter("w", {5, 4}, DType::kF64, 1);
  EXPECT_TRUE(GradCheck(
      [&](Tape& t, const std::vector<Variable>& in) {
        return std::vector<Variable>{Linear(t, in[0], w)};
      },
      {RandomTensor({3, 2, 4}, DType::kF64, 2)}, {&w}));
}

TEST(Gradients, LinearOntoAResidual) {
  Parameter w = RandomParameter("w", {5, 4}, DType::kF64, 1);
  EXPECT_TRUE(GradCheck(
      [&](Tape& t, const std::vector<Variable>& in) {
        return std::vector<Variable>{Linear(t, in[0], w, in[1])};
      },
      {RandomTensor({3, 2, 4}, DType::kF64, 2), RandomTensor({3, 2, 5}, DType::kF64, 3)}, {&w}));
}

// The norm's backward adds to the gradient that came around it: one consumer after it, or two; of a
// variable of the tape (whose sum may be overwritten) and of a leaf.
TEST(Gradients, RmsNormInsideAResidual) {
  Parameter norm = RandomParameter("norm", {6}, DType::kF64, 1),
            w = RandomParameter("w", {6, 6}, DType::kF64, 2);
  for (const bool leaf : {true, false}) {
    for (const bool twice : {false, true}) {
      EXPECT_TRUE(GradCheck(
          [&](Tape& t, const std::vector<Variable>& in) {
            const Variable x = leaf ? in[0] : Sigmoid(t, in[0]);
            Variable y = Linear(t, RmsNorm(t, x, norm, 1e-5), w, x);
            if (twice) y = Add(t, y, x);
            return std::vector<Variable>{y};
          },
          {RandomTensor({10, 6}, DType::kF64, 3)}, {&norm, &w}));
    }
  }
}

TEST(Gradients, RmsNorm) {
  Parameter w = RandomParameter("w", {6}, DType::kF64, 1);
  EXPECT_TRUE(GradCheck(
      [&](Tape& t, const std::vector<Variable>& in) {
        return std::vector<Variable>{RmsNorm(t, in[0], w, 1e-5)};
      },
      {RandomTensor({130, 6}, DType::kF64, 2)}, {&w}));
}

TEST(Gradients, SwiGlu) {
  EXPECT_TRUE(GradCheck(
      [&](Tape& t, const std::vector<Variable>& in) {
        return std::vector<Variable>{SwiGlu(t, in[0])};
      },
      {RandomTensor({7, 10}, DType::kF64, 2)}));
}

TEST(Gradients, SigmoidAddReshape) {
  EXPECT_TRUE(GradCheck(
      [&](Tape& t, const std::vector<Variable>& in) {
        return std::vector<Variable>{Add(t, Sigmoid(t, in[0]), Reshape(t, in[1], {2, 3}))};
      },
      {RandomTensor({2, 3}, DType::kF64, 2), RandomTensor({3, 2}, DType::kF64, 3)}));
}

TEST(Gradients, Embedding) {
  Parameter w = RandomParameter("w", {7, 70}, DType::kF64, 1);
  const Tensor ids = Tensor::FromVector(std::vector<int32_t>{3, 0, 3, 6}, {4});
  EXPECT_TRUE(GradCheck(
      [&](Tape& t, const std::vector<Variable>&) {
        return std::vector<Variable>{Embedding(t, ids, w)};
      },
      {}, {&w}));
}

TEST(Gradients, LinearCrossEntropyWithMaskedRowsAndChunks) {
  Parameter w = RandomParameter("w", {9, 4}, DType::kF64, 1);
  const Tensor targets = Tensor::FromVector(std::vector<int32_t>{3, -1, 8, 0, 5, -1, 2}, {7});
  for (const int64_t chunk : {2, 100}) {
    EXPECT_TRUE(GradCheck(
        [&](Tape& t, const std::vector<Variable>& in) {
          return std::vector<Variable>{LinearCrossEntropy(t, in[0], w, targets, 0.2, chunk).loss};
        },
        {RandomTensor({7, 4}, DType::kF64, 2)}, {&w}, {.loss = true}));
  }
}

TEST(Gradients, RopePlainAndYarn) {
  const PackedSequences sequences({0, 5, 6, 9});
  for (const double factor : {1.0, 4.0}) {
    RopeTable table({.rotary_dims = 4,
                     .theta = 100.0,
                     .yarn_factor = factor,
                     .yarn_original_length = 64,
                     .yarn_beta_fast = 4.0},
                    DType::kF64);
    table.Prepare(sequences.max_length());
    EXPECT_TRUE(GradCheck(
        [&](Tape& t, const std::vector<Variable>& in) {
          return std::vector<Variable>{Rope(t, in[0], sequences.positions(), table)};
        },
        {RandomTensor({9, 2, 6}, DType::kF64, 2)}));
  }
}

// A variable that is moved in and that nobody saved is rotated where it lies, and so is its gradient.
TEST(Gradients, RopeInPlace) {
  const PackedSequences sequences({0, 5, 9});
  RopeTable table({.rotary_dims = 4, .theta = 100.0}, DType::kF64);
  table.Prepare(sequences.max_length());
  Parameter w = RandomParameter("w", {12, 3}, DType::kF64, 1);
  EXPECT_TRUE(GradCheck(
      [&](Tape& t, const std::vector<Variable>& in) {
        Variable x = Reshape(t, Linear(t, in[0], w), {9, 2, 6});
        const void* const memory = x.value().Ref().data;
        const Variable y = Rope(t, std::move(x), sequences.positions(), table);
        EXPECT_EQ(y.value().Ref().data, memory);
        return std::vector<Variable>{y};
      },
      {RandomTensor({9, 3}, DType::kF64, 2)}, {&w}));
  Tape tape;
  const Variable kept = tape.Leaf(RandomTensor({9, 2, 6}, DType::kF64, 3));
  const std::vector<double> before = kept.value().ToDoubles();
  Rope(tape, kept, sequences.positions(), table);
  EXPECT_EQ(kept.value().ToDoubles(), before);
}

}  // namespace
}  // namespace lacuna
