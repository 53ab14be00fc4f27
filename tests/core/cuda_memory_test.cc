// Statistics of CUDA memory.
#include <gtest/gtest.h>

#include "core/cuda/memory.h"
#include "core/stream.h"
#include "core/tensor.h"

namespace lacuna {
namespace {

TEST(CudaMemory, TensorsAndWorkspacesCount) {
  constexpr int64_t kMiB = 1 << 20;
  const Device device = CudaDevice();
  const int64_t before = CudaMemoryStats(device).in_use;
  ResetCudaMemoryPeak(device);
  EXPECT_EQ(CudaMemoryStats(device).peak, before);
  {
    const Tensor x = Tensor::Empty({3, kMiB}, DType::kBF16, device);
    const Tensor same = x.Slice(1, 2);
    EXPECT_EQ(CudaMemoryStats(device).in_use, before + 6 * kMiB);
    { const cuda::Workspace workspace(10 * kMiB, ComputeStream(device)); }
    EXPECT_EQ(CudaMemoryStats(device).in_use, before + 6 * kMiB);
    EXPECT_GE(CudaMemoryStats(device).reserved, 6 * kMiB);
  }
  EXPECT_EQ(CudaMemoryStats(device).in_use, before);
  EXPECT_EQ(CudaMemoryStats(device).peak, before + 16 * kMiB);
  ResetCudaMemoryPeak(device);
  EXPECT_EQ(CudaMemoryStats(device).peak, before);
  const int64_t reserved = CudaMemoryStats(device).reserved;
  ReleaseCudaCache(device);
  EXPECT_LT(CudaMemoryStats(device).reserved, reserved);
}

}  // namespace
}  // namespace lacuna
