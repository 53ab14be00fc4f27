// Memory of a CUDA device: statistics by category, and a device that has no more.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "core/cuda/check.h"
#include "core/cuda/memory.h"
#include "core/ops/elementwise.h"
#include "core/out_of_memory.h"
#include "core/stream.h"
#include "core/tensor.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

// The device computes, and no error of before is left for the next check.
void ExpectTheDeviceWorks(Device device) {
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  Tensor x = Tensor::Empty({1000}, DType::kF32, device);
  ops::Fill({.y = x.MutableRef(), .value = 3}, ComputeStream(device));
  EXPECT_EQ(x.ToDoubles(), std::vector<double>(1000, 3.0));
}

TEST(CudaMemory, TensorsAndWorkspacesCount) {
  const Device device = CudaDevice();
  const MemoryStats start = CudaMemoryStats(device);
  const int64_t before = start.in_use;
  ResetCudaMemoryPeak(device);
  EXPECT_EQ(CudaMemoryStats(device).peak, before);
  {
    const MemoryScope scope(MemoryCategory::kGradients);
    const Tensor x = Tensor::Empty({3, kMiB}, DType::kBF16, device);
    const Tensor same = x.Slice(1, 2);
    EXPECT_EQ(CudaMemoryStats(device).in_use, before + 6 * kMiB);
    { const cuda::Workspace workspace(10 * kMiB, ComputeStream(device)); }
    EXPECT_EQ(CudaMemoryStats(device).in_use, before + 6 * kMiB);
    EXPECT_GE(CudaMemoryStats(device).reserved, 6 * kMiB);
  }
  const MemoryStats end = CudaMemoryStats(device);
  EXPECT_EQ(end.in_use, before);
  EXPECT_EQ(end.peak, before + 16 * kMiB);
  for (const auto& [category, bytes] : {std::pair(MemoryCategory::kGradients, 6 * kMiB),
                                        std::pair(MemoryCategory::kWorkspace, 10 * kMiB)}) {
    const int64_t held = start.of(category).in_use;
    EXPECT_EQ(end.of(category).in_use, held) << NameOf(category);
    EXPECT_EQ(end.of(category).at_peak, held + bytes) << NameOf(category);
    EXPECT_EQ(end.of(category).peak, held + bytes) << NameOf(category);
  }
  ResetCudaMemoryPeak(device);
  EXPECT_EQ(CudaMemoryStats(device).peak, before);
  const int64_t reserved = CudaMemoryStats(device).reserved;
  ReleaseCudaCache(device);
  EXPECT_LT(CudaMemoryStats(device).reserved, reserved);
}

TEST(CudaMemory, MoreThanTheCardHoldsIsNoFailureOfTheDevice) {
  const Device device = CudaDevice();
  const CudaDeviceInfo info = InfoOfCudaDevice(device);
  const Tensor kept = Tensor::Zeros({kMiB}, DType::kF32, device);
  const MemoryStats before = CudaMemoryStats(device);
  try {
    const MemoryScope scope(MemoryCategory::kActivations);
    Tensor::Empty({2 * info.memory_bytes}, DType::kU8, device);
    FAIL() << "nothing was refused";
  } catch (const OutOfMemoryError& error) {
    const OutOfMemory& request = error.request();
    EXPECT_EQ(request.bytes, 2 * info.memory_bytes);
    EXPECT_EQ(request.category, MemoryCategory::kActivations);
    EXPECT_GT(request.total, info.memory_bytes / 2);
    EXPECT_GT(request.free, 0);
    EXPECT_LT(request.free, request.total);
    EXPECT_EQ(request.limit, 0);
    const std::string text = error.what();
    EXPECT_THAT(text, HasSubstr("out of memory on CUDA device 0 (" + info.name + "): " +
                                FormatMemory(2 * info.memory_bytes) + " asked for activations, "));
    EXPECT_THAT(text, HasSubstr(" free of "));
    EXPECT_THAT(text, HasSubstr("\n  other "));
    EXPECT_THAT(text, HasSubstr("\n  elsewhere "));
  }
  EXPECT_EQ(CudaMemoryStats(device).in_use, before.in_use);
  EXPECT_EQ(CudaMemoryStats(device).peak, before.peak);
  ExpectTheDeviceWorks(device);
  EXPECT_EQ(kept.Slice(0, 10).ToDoubles(), std::vector<double>(10, 0.0));
}

// Blocks until the card is full, then all of them again: what was freed is there to be had, in
// other sizes, too.
TEST(CudaMemory, AFullCardIsUsedAgain) {
  const Device device = CudaDevice();
  constexpr int64_t kBlock = 512 * kMiB;
  ReleaseCudaCache(device);
  const auto fill = [&](int64_t size) {
    std::vector<Tensor> blocks;
    try {
      for (;;) blocks.push_back(Tensor::Empty({size}, DType::kU8, device));
    } catch (const OutOfMemoryError&) {
    }
    return static_cast<int64_t>(blocks.size()) * size;
  };
  const int64_t first = fill(kBlock);
  EXPECT_GT(first, InfoOfCudaDevice(device).memory_bytes / 4);
  EXPECT_GT(fill(3 * kBlock), first - 4 * kBlock);
  ExpectTheDeviceWorks(device);
  ReleaseCudaCache(device);
}

TEST(CudaMemory, ALimitRefuses) {
  const Device device = CudaDevice();
  const int64_t before = CudaMemoryStats(device).in_use;
  SetMemoryLimit(device, before + 8 * kMiB);
  EXPECT_NO_THROW(Tensor::Empty({8 * kMiB}, DType::kU8, device));
  try {
    cuda::Workspace(9 * kMiB, ComputeStream(device));
    ADD_FAILURE() << "nothing was refused";
  } catch (const OutOfMemoryError& error) {
    EXPECT_EQ(error.request().limit, before + 8 * kMiB);
    EXPECT_THAT(error.what(), HasSubstr("9.00 MiB asked for workspace, past the limit of "));
  }
  SetMemoryLimit(device, 0);
  EXPECT_NO_THROW(Tensor::Empty({9 * kMiB}, DType::kU8, device));
  ExpectTheDeviceWorks(device);
}

// Any other call of the runtime that finds no memory.
TEST(CudaMemory, ALibrarysRequestIsOutOfMemoryToo) {
  const Device device = CudaDevice();
  ExpectTheDeviceWorks(device);
  void* data = nullptr;
  try {
    LACUNA_CUDA_CHECK(cudaMalloc(&data, size_t{1} << 50));
    FAIL() << "nothing was refused";
  } catch (const OutOfMemoryError& error) {
    EXPECT_THAT(error.what(), HasSubstr("cudaMalloc(&data, size_t{1} << 50) failed, "));
  }
  ExpectTheDeviceWorks(device);
}

}  // namespace
}  // namespace lacuna
