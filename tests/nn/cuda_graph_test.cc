// Captured work: a transformer block's forward and backward with the optimizer's kernels gives the
// bits of the same work queued call by call; what must not be captured is refused, and nothing of it
// stays behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "core/cuda/check.h"
#include "core/cuda/graph.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/stream.h"
#include "nn/gqa_attention.h"
#include "nn/optimizer.h"
#include "nn/swiglu_ffn.h"
#include "nn/transformer_block.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::CudaStream;
using testing::HasSubstr;

constexpr int64_t kRows = 160, kWidth = 64;

// Dk = 24 in bf16 goes through cuDNN where the build and the card have it, Dk = 20 never does.
struct Variant {
  DType dtype;
  int64_t head_dim_qk;
};

std::unique_ptr<TransformerBlock> MakeBlock(const Variant& variant) {
  RopeSpec rope;
  rope.rotary_dims = 8;
  const AttentionSpec spec{
      .width = kWidth,
      .num_heads = 4,
      .num_groups = 2,
      .head_dim_qk = variant.head_dim_qk,
      .head_dim_v = 16,
      .qk_norm = true,
      .init_std = 0.1,
      .out_std = 0.1,
      .rope = std::make_shared<RopeTable>(rope, variant.dtype, CudaDevice())};
  return std::make_unique<TransformerBlock>(kWidth, 1e-5, std::make_unique<GqaAttention>(spec),
                                            std::make_unique<SwiGluFfn>(kWidth, 96, 0.1, 0.1),
                                            RecomputePolicy{});
}

// y = block(x), the gradients of <y, dy>, their norm and one AdamW step with fixed scalars. What
// outlives a run was there before it.
class BlockStep {
 public:
  explicit BlockStep(const Variant& variant)
      : variant_(variant),
        block_(MakeBlock(variant)),
        parameters_((block_->SetName("block"), *block_), variant.dtype, 7, true, CudaDevice()),
        optimizer_(parameters_, {}),
        x_(Empty()),
        y_(Empty()),
        dx_(Empty()),
        dy_(test::RandomTensor({kRows, kWidth}, variant.dtype, 99).To(CudaDevice())),
        loss_(Tensor::Zeros({1}, DType::kF32, CudaDevice())) {}

  void SetInput(uint64_t seed) {
    x_.CopyFrom(test::RandomTensor({kRows, kWidth}, variant_.dtype, seed));
  }

  void Run() {
    parameters_.ZeroGrad();
    Tape tape(Tape::Mode::kRecord, CudaStream());
    ForwardContext ctx{.tape = tape, .sequences = sequences_, .rows_per_sample = kRows};
    const Variable x = tape.Leaf(x_), y = block_->Forward(ctx, x);
    y_.CopyFrom(y.value());
    tape.Backward({{y, dy_}});
    dx_.CopyFrom(tape.Grad(x));
    const GradientNorm norm = MeasureGradients(parameters_, loss_, 0.5);
    optimizer_.set_num_updates(0);
    optimizer_.Step(1e-3, norm.clip_factor);
  }

  // y, dx, gradients, weights and moments as they are now.
  std::vector<Tensor> Numbers() {
    std::vector<Tensor> numbers;
    for (const Tensor& tensor : {y_, dx_, parameters_.grad(), parameters_.master(),
                                 parameters_.value(), optimizer_.first_moment(),
                                 optimizer_.second_moment()})
      numbers.push_back(tensor.To(kCpu).Clone());
    return numbers;
  }

 private:
  Tensor Empty() const { return Tensor::Empty({kRows, kWidth}, variant_.dtype, CudaDevice()); }

  Variant variant_;
  std::unique_ptr<TransformerBlock> block_;
  FlatParameters parameters_;
  AdamW optimizer_;
  PackedSequences sequences_ = PackedSequences({0, 31, 32, kRows}).To(CudaDevice());
  Tensor x_, y_, dx_, dy_, loss_;
};

class CudaGraph : public testing::TestWithParam<Variant> {};

TEST_P(CudaGraph, ReplaysOfATrainingStepHaveTheBitsOfTheCalls) {
  BlockStep called(GetParam()), captured(GetParam());
  for (BlockStep* step : {&called, &captured}) {
    step->SetInput(0);
    step->Run();
  }
  const std::vector<Tensor> before = captured.Numbers();
  const int64_t in_use = CudaMemoryStats(CudaDevice()).in_use, waits = NumHostWaits();
  const cuda::CapturedWork graph = cuda::Capture(CudaStream(), [&] { captured.Run(); });
  EXPECT_EQ(NumHostWaits(), waits);
  EXPECT_EQ(CudaMemoryStats(CudaDevice()).in_use, in_use);
  EXPECT_GT(graph.num_nodes(), 30);
  EXPECT_GT(graph.num_kernels(), 0);
  EXPECT_LE(graph.num_kernels(), graph.num_nodes());
  const std::vector<Tensor> recorded = captured.Numbers();
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_TRUE(test::SameBits(recorded[i], before[i])) << "recording changed " << i;

  std::vector<Tensor> last = before;
  for (const uint64_t seed : {1, 2, 3, 4}) {
    called.SetInput(seed);
    called.Run();
    captured.SetInput(seed);
    graph.Replay(CudaStream());
    const std::vector<Tensor> expected = called.Numbers(), actual = captured.Numbers();
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(test::SameBits(actual[i], expected[i])) << "tensor " << i << ", input " << seed;
      EXPECT_FALSE(test::SameBits(actual[i], last[i])) << "tensor " << i << ", input " << seed;
    }
    last = actual;
  }
}

// Nobody waits between replays: each begins when the one before is done.
TEST_P(CudaGraph, ReplaysQueueUp) {
  BlockStep called(GetParam()), captured(GetParam());
  for (BlockStep* step : {&called, &captured}) {
    step->SetInput(0);
    step->Run();
  }
  cuda::CapturedWork graph = cuda::Capture(CudaStream(), [&] { captured.Run(); });
  for (int i = 0; i < 5; ++i) {
    called.Run();
    graph.Replay(CudaStream());
  }
  graph = cuda::CapturedWork();  // while it is under way
  const std::vector<Tensor> expected = called.Numbers(), actual = captured.Numbers();
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(test::SameBits(actual[i], expected[i])) << "tensor " << i;
}

INSTANTIATE_TEST_SUITE_P(All, CudaGraph,
                         testing::Values(Variant{DType::kF32, 24}, Variant{DType::kBF16, 24},
                                         Variant{DType::kBF16, 20}),
                         [](const auto& info) {
                           return std::string(NameOf(info.param.dtype)) + "_" +
                                  std::to_string(info.param.head_dim_qk);
                         });

// Capture(work) throws an Error with this text (no DeviceError, which would end a run), and the
// stream, its memory and the launch checks are as before.
void ExpectRefused(const std::function<void()>& work, const std::string& text) {
  SCOPED_TRACE(text);
  const int64_t in_use = CudaMemoryStats(CudaDevice()).in_use;
  try {
    cuda::Capture(CudaStream(), work);
    ADD_FAILURE() << "was captured";
  } catch (const DeviceError& error) {
    ADD_FAILURE() << "a failure of the device: " << error.what();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(text));
  }
  EXPECT_FALSE(cuda::Capturing());
  EXPECT_EQ(CudaMemoryStats(CudaDevice()).in_use, in_use);
  Tensor y = Tensor::Zeros({1000}, DType::kF32, CudaDevice());
  ops::Fill({.y = y.MutableRef(), .value = 3}, CudaStream());
  EXPECT_EQ(y.ToDoubles(), std::vector<double>(1000, 3.0));
  cuda::Capture(CudaStream(), [&] {
    ops::Fill({.y = y.MutableRef(), .value = 4}, CudaStream());
  }).Replay(CudaStream());
  EXPECT_EQ(y.ToDoubles(), std::vector<double>(1000, 4.0));
}

TEST(CudaGraphRefuses, HostMemoryAndWaits) {
  const Tensor host = test::RandomTensor({100}, DType::kF32, 1);
  Tensor there = host.To(CudaDevice());
  ExpectRefused([&] { there.CopyFrom(host); }, "an upload from host memory cannot be captured");
  ExpectRefused([&] { there.ToDoubles(); }, "a copy to the host");
  ExpectRefused([&] { Synchronize(CudaStream()); }, "a wait of the host");
  ExpectRefused([&] { ReleaseCudaCache(CudaDevice()); }, "a wait of the host");
  // Past our own checks: CUDA breaks the capture, whether its error is looked at or not.
  const auto stream = static_cast<cudaStream_t>(CudaStream().handle);
  ExpectRefused([&] { LACUNA_CUDA_CHECK(cudaStreamSynchronize(stream)); },
                "cudaErrorStreamCaptureUnsupported");
  ExpectRefused(
      [&] {
        const Tensor inside = Tensor::Zeros({100}, DType::kF32, CudaDevice());
        static_cast<void>(cudaStreamSynchronize(stream));
      },
      "cudaErrorStreamCaptureInvalidated");
}

TEST(CudaGraphRefuses, MemoryThatCrossesItsEnds) {
  std::optional<Tensor> result;
  const auto allocate = [&] { result = Tensor::Zeros({64}, DType::kF32, CudaDevice()); };
  const int64_t in_use = CudaMemoryStats(CudaDevice()).in_use;
  EXPECT_THROW(cuda::Capture(CudaStream(), allocate), Error);
  // What is left of it is an address with nothing behind: giving it back is no error.
  EXPECT_EQ(CudaMemoryStats(CudaDevice()).in_use, in_use + 256);
  result.reset();
  EXPECT_EQ(CudaMemoryStats(CudaDevice()).in_use, in_use);
  ExpectRefused(
      [] {
        const Tensor inside = Tensor::Zeros({1000}, DType::kBF16, CudaDevice());
        throw Error("the work's own");
      },
      "the work's own");
}

TEST(CudaGraphRefuses, FreeingWhatReplaysUse) {
  std::optional<Tensor> before = Tensor::Zeros({64}, DType::kF32, CudaDevice());
  const int64_t in_use = CudaMemoryStats(CudaDevice()).in_use;
  try {
    cuda::Capture(CudaStream(), [&] { before.reset(); });
    ADD_FAILURE() << "was captured";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("from before the capture are freed inside"));
  }
  EXPECT_EQ(CudaMemoryStats(CudaDevice()).in_use, in_use - 256);
}

TEST(CudaGraphRefuses, WhatRunsForTheFirstTime) {
  const Tensor a = Tensor::Zeros({37, 53}, DType::kF32, CudaDevice()),
               b = Tensor::Zeros({53, 29}, DType::kF32, CudaDevice());
  Tensor c = Tensor::Empty({37, 29}, DType::kF32, CudaDevice());
  const auto multiply = [&] {
    ops::MatMul({.a = a.Ref(), .b = b.Ref(), .c = c.MutableRef()}, CudaStream());
  };
  ExpectRefused(multiply, "has not run yet");
  multiply();
  EXPECT_NO_THROW(cuda::Capture(CudaStream(), multiply).Replay(CudaStream()));
  EXPECT_EQ(c.ToDoubles(), std::vector<double>(37 * 29, 0.0));
}

TEST(CudaGraphRefuses, NestingAndOtherStreams) {
  ExpectRefused([] { cuda::Capture(CudaStream(), [] {}); }, "a capture inside a capture");
  const cuda::CapturedWork nothing = cuda::Capture(CudaStream(), [] {});
  EXPECT_EQ(nothing.num_nodes(), 0);
  nothing.Replay(CudaStream());
  ExpectRefused([&] { nothing.Replay(CudaStream()); }, "a replay inside a capture");
  EXPECT_THROW(cuda::Capture(kCpuStream, [] {}), Error);
  EXPECT_THROW(cuda::CapturedWork().Replay(CudaStream()), Error);
}

}  // namespace
}  // namespace lacuna
