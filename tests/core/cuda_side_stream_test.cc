// A side stream's work follows what was queued before it, is followed by what comes after Join, and
// can be captured.
#include <gtest/gtest.h>

#include "core/cuda/graph.h"
#include "core/cuda/memory.h"
#include "core/ops/elementwise.h"
#include "core/repeat_checker.h"
#include "core/side_stream.h"
#include "core/stream.h"
#include "core/tensor.h"
#include "tests/support/cuda_parity.h"

namespace lacuna {
namespace {

using test::CudaStream;

// Large enough for a kernel to be under way when the next is queued.
constexpr int64_t kElements = int64_t{1} << 26;

class Work {
 public:
  Work() : x_(Empty()), twice_(Empty()), y_(Empty()) {}

  // x = value; twice = x + x on the side, through a workspace's memory; x = -1; y = twice + x.
  void Run(double value) {
    const Stream stream = CudaStream();
    ops::Fill({.y = x_.MutableRef(), .value = value}, stream);
    {
      const SideStream side(stream);
      const cuda::Workspace copy(kElements * 4, side.stream());
      cuda::CopyOnDevice(copy.As<void>(), x_.Ref().data, kElements * 4, side.stream());
      TensorRef copied = x_.MutableRef();
      copied.data = copy.As<void>();
      ops::Add({.a = copied, .b = copied, .y = twice_.MutableRef()}, side.stream());
    }  // the workspace is given back, then the side joined
    ops::Fill({.y = x_.MutableRef(), .value = -1}, stream);
    ops::Add({.a = twice_.Ref(), .b = x_.Ref(), .y = y_.MutableRef()}, stream);
  }

  // The first and the last element of y, which one kernel writes at different times.
  void ExpectResult(double value) {
    for (const int64_t at : {int64_t{0}, kElements - 1})
      EXPECT_EQ(y_.View(at, {1}).ToDoubles()[0], 2 * value - 1) << "element " << at;
  }

 private:
  static Tensor Empty() { return Tensor::Empty({kElements}, DType::kF32, CudaDevice()); }

  Tensor x_, twice_, y_;
};

TEST(CudaSideStream, FollowsAndIsFollowed) {
  EXPECT_NE(SideStream(CudaStream()).stream().handle, CudaStream().handle);
  Work work;
  for (int i = 0; i < 50; ++i) {
    work.Run(i);
    if (i % 10 == 9) work.ExpectResult(i);
  }
}

TEST(CudaSideStream, IsCaptured) {
  Work work;
  work.Run(3);
  const cuda::CapturedWork graph = cuda::Capture(CudaStream(), [&] { work.Run(7); });
  work.ExpectResult(3);
  for (int i = 0; i < 5; ++i) graph.Replay(CudaStream());
  work.ExpectResult(7);
}

TEST(CudaSideStream, WorkspacesOfBothStreamsAreApart) {
  const Stream stream = CudaStream();
  const auto bytes = kElements * 4;
  Tensor kept = Tensor::Empty({kElements}, DType::kF32, CudaDevice());
  TensorRef block = kept.MutableRef();
  for (int i = 0; i < 20; ++i) {
    SideStream side(stream);
    {  // freed by the host while the side's kernels wait to write it
      const cuda::Workspace workspace(bytes, side.stream());
      block.data = workspace.As<void>();
      for (int k = 0; k < 4; ++k) ops::Fill({.y = block, .value = 1}, side.stream());
    }
    const cuda::Workspace workspace(bytes, stream);
    block.data = workspace.As<void>();
    ops::Fill({.y = block, .value = 2}, stream);
    side.Join();
    ops::Add({.a = block, .b = block, .y = kept.MutableRef()}, stream);
    for (const int64_t at : {int64_t{0}, kElements - 1})
      ASSERT_EQ(kept.View(at, {1}).ToDoubles()[0], 4) << "turn " << i << ", element " << at;
  }
}

TEST(CudaSideStream, WhoObservesKernelsSeesThemInOrder) {
  RepeatChecker checker(CudaStream());
  const ObserveKernels observe(checker);
  EXPECT_EQ(SideStream(CudaStream()).stream().handle, CudaStream().handle);
}

}  // namespace
}  // namespace lacuna
