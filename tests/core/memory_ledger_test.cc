// Memory by category: booking, the snapshot at the peak, limits, and what a failed request says.
#include "core/memory_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <thread>
#include <vector>

#include "core/out_of_memory.h"
#include "core/tensor.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;
constexpr MemoryCategory kAll[] = {
    MemoryCategory::kParameters, MemoryCategory::kGradients,
    MemoryCategory::kOptimizer,  MemoryCategory::kActivations,
    MemoryCategory::kRecomputed, MemoryCategory::kActivationGradients,
    MemoryCategory::kLogits,     MemoryCategory::kCommunication,
    MemoryCategory::kWorkspace,  MemoryCategory::kOther};

int64_t SumAtPeak(const MemoryStats& stats) {
  int64_t sum = 0;
  for (const auto& category : stats.categories) sum += category.at_peak;
  return sum;
}

TEST(MemoryLedger, KeepsWhoHeldWhatAtThePeak) {
  MemoryLedger ledger;
  ledger.Add(MemoryCategory::kParameters, 100);
  ledger.Add(MemoryCategory::kActivations, 70);
  ledger.Remove(MemoryCategory::kActivations, 50);
  ledger.Add(MemoryCategory::kWorkspace, 60);  // the peak: 100 + 20 + 60
  ledger.Remove(MemoryCategory::kWorkspace, 60);
  ledger.Add(MemoryCategory::kLogits, 30);
  const MemoryStats stats = ledger.stats();
  EXPECT_EQ(stats.in_use, 150);
  EXPECT_EQ(stats.peak, 180);
  EXPECT_EQ(SumAtPeak(stats), stats.peak);
  const auto expect = [&](MemoryCategory category, int64_t in_use, int64_t at_peak, int64_t peak) {
    EXPECT_EQ(stats.of(category).in_use, in_use) << NameOf(category);
    EXPECT_EQ(stats.of(category).at_peak, at_peak) << NameOf(category);
    EXPECT_EQ(stats.of(category).peak, peak) << NameOf(category);
  };
  expect(MemoryCategory::kParameters, 100, 100, 100);
  expect(MemoryCategory::kActivations, 20, 20, 70);
  expect(MemoryCategory::kWorkspace, 0, 60, 60);
  expect(MemoryCategory::kLogits, 30, 0, 30);
  expect(MemoryCategory::kOther, 0, 0, 0);

  ledger.ResetPeak();
  const MemoryStats reset = ledger.stats();
  EXPECT_EQ(reset.peak, 150);
  EXPECT_EQ(SumAtPeak(reset), 150);
  EXPECT_EQ(reset.of(MemoryCategory::kActivations).peak, 20);
}

TEST(MemoryLedger, ALimitIsOfWhatIsInUse) {
  MemoryLedger ledger;
  EXPECT_TRUE(ledger.Fits(int64_t{1} << 62));
  ledger.set_limit(100);
  ledger.Add(MemoryCategory::kOther, 60);
  EXPECT_TRUE(ledger.Fits(40));
  EXPECT_FALSE(ledger.Fits(41));
  EXPECT_FALSE(ledger.Fits(INT64_MAX));
  ledger.Remove(MemoryCategory::kOther, 60);
  EXPECT_TRUE(ledger.Fits(100));
}

TEST(MemoryLedger, ThreadsBookTogether) {
  MemoryLedger ledger;
  std::vector<std::thread> threads;
  for (const MemoryCategory category : {MemoryCategory::kGradients, MemoryCategory::kOther}) {
    threads.emplace_back([&ledger, category] {
      for (int i = 0; i < 20000; ++i) {
        ledger.Add(category, 3);
        ledger.Remove(category, 2);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const MemoryStats stats = ledger.stats();
  EXPECT_EQ(stats.in_use, 40000);
  EXPECT_EQ(stats.of(MemoryCategory::kGradients).in_use, 20000);
  EXPECT_EQ(SumAtPeak(stats), stats.peak);
}

TEST(MemoryScope, TheInnermostCountsAndABlockKeepsItsCategory) {
  EXPECT_EQ(MemoryScope::Current(), MemoryCategory::kOther);
  const auto in_use = [](MemoryCategory category) { return CpuMemoryStats().of(category).in_use; };
  const int64_t optimizer = in_use(MemoryCategory::kOptimizer),
                logits = in_use(MemoryCategory::kLogits);
  std::optional<Tensor> outer, inner;
  {
    const MemoryScope scope(MemoryCategory::kOptimizer);
    {
      const MemoryScope nested(MemoryCategory::kLogits);
      inner = Tensor::Empty({kMiB}, DType::kU8);
    }
    outer = Tensor::Empty({2 * kMiB}, DType::kU8);
    std::thread([] { EXPECT_EQ(MemoryScope::Current(), MemoryCategory::kOther); }).join();
  }
  EXPECT_EQ(in_use(MemoryCategory::kOptimizer), optimizer + 2 * kMiB);
  EXPECT_EQ(in_use(MemoryCategory::kLogits), logits + kMiB);
  const Tensor view = outer->Slice(0, 1);
  outer.reset();
  EXPECT_EQ(in_use(MemoryCategory::kOptimizer), optimizer + 2 * kMiB);
  {
    const MemoryScope elsewhere(MemoryCategory::kWorkspace);
    inner.reset();
  }
  EXPECT_EQ(in_use(MemoryCategory::kLogits), logits);
}

TEST(MemoryCategory, EachHasItsName) {
  ASSERT_EQ(std::size(kAll), kNumMemoryCategories);
  for (size_t i = 0; i < std::size(kAll); ++i) {
    EXPECT_EQ(static_cast<size_t>(kAll[i]), i);
    for (size_t j = 0; j < i; ++j) EXPECT_STRNE(NameOf(kAll[i]), NameOf(kAll[j]));
  }
}

MemoryStats Example() {
  MemoryLedger ledger;
  ledger.Add(MemoryCategory::kParameters, 512 * kMiB);
  ledger.Add(MemoryCategory::kActivations, 1536 * kMiB);
  ledger.Add(MemoryCategory::kWorkspace, 5 * kMiB);
  ledger.Remove(MemoryCategory::kWorkspace, 5 * kMiB);
  MemoryStats stats = ledger.stats();
  stats.reserved = 2304 * kMiB;
  return stats;
}

TEST(OutOfMemory, TheTableIsAligned) {
  EXPECT_EQ(MemoryTable(Example()),
            "  memory                        in use     at peak    own peak\n"
            "  parameters                512.00 MiB  512.00 MiB  512.00 MiB\n"
            "  activations                 1.50 GiB    1.50 GiB    1.50 GiB\n"
            "  workspace                        0 B    5.00 MiB    5.00 MiB\n"
            "  total                       2.00 GiB    2.00 GiB\n"
            "  kept for reuse            256.00 MiB\n");
  EXPECT_EQ(PeakSummary(Example()),
            "2.00 GiB = activations 1.50 GiB + parameters 512.00 MiB + rest 5.00 MiB");
}

TEST(OutOfMemory, ACardsRequestSaysWhatTheCardHolds) {
  OutOfMemory request;
  request.device = {DeviceType::kCuda, 1};
  request.device_name = "NVIDIA H100";
  request.bytes = 3 << 20;
  request.category = MemoryCategory::kLogits;
  request.total = 4096 * kMiB;
  request.free = kMiB;
  request.stats = Example();
  const std::string text = OutOfMemoryError(request, "advice\n").what();
  EXPECT_THAT(text, testing::StartsWith("out of memory on CUDA device 1 (NVIDIA H100): 3.00 MiB "
                                        "asked for logits, 1.00 MiB free of 4.00 GiB\n"
                                        "  memory     "));
  EXPECT_THAT(text, HasSubstr("\n  elsewhere                   1.75 GiB\n"));
  EXPECT_THAT(text, testing::EndsWith("\nadvice"));
  request.call = "memory.cc:1: cudaMallocHost(p, n)";
  EXPECT_THAT(OutOfMemoryError(request).what(),
              HasSubstr("(NVIDIA H100): memory.cc:1: cudaMallocHost(p, n) failed, 1.00 MiB free"));
}

// Sets a limit for the life of the scope.
struct LimitOfCpu {
  explicit LimitOfCpu(int64_t bytes) { SetMemoryLimit(kCpu, bytes); }
  ~LimitOfCpu() { SetMemoryLimit(kCpu, 0); }
};

TEST(OutOfMemory, ALimitRefusesAndLeavesTheAllocatorAsItWas) {
  const int64_t before = CpuMemoryStats().in_use;
  const LimitOfCpu limit(before + 8 * kMiB);
  const Tensor x = Tensor::Empty({4 * kMiB}, DType::kU8);
  ResetMemoryPeak(kCpu);
  const MemoryScope scope(MemoryCategory::kActivations);
  try {
    Tensor::Empty({5 * kMiB}, DType::kU8);
    FAIL() << "nothing was refused";
  } catch (const OutOfMemoryError& error) {
    EXPECT_THAT(error.what(), HasSubstr("out of memory on the CPU: 5.00 MiB asked for "
                                        "activations, past the limit of "));
    EXPECT_EQ(error.request().bytes, 5 * kMiB);
    EXPECT_EQ(error.request().category, MemoryCategory::kActivations);
    EXPECT_EQ(error.request().stats.in_use, before + 4 * kMiB);
  }
  EXPECT_EQ(CpuMemoryStats().in_use, before + 4 * kMiB);
  EXPECT_EQ(CpuMemoryStats().peak, before + 4 * kMiB);
  EXPECT_NO_THROW(Tensor::Empty({4 * kMiB}, DType::kU8));
}

TEST(OutOfMemory, WhatIsKeptForReuseStaysBelowTheLimit) {
  ReleaseCpuCache();
  const LimitOfCpu limit(CpuMemoryStats().reserved + 8 * kMiB);
  const int64_t most = CpuMemoryStats().reserved + 8 * kMiB;
  // Of four sizes: together they would be 22 MiB.
  for (const int64_t size : {4, 5, 6, 7}) {
    Tensor::Empty({size * kMiB}, DType::kU8);
    EXPECT_LE(CpuMemoryStats().reserved, most);
  }
}

TEST(OutOfMemory, TheSystemRefuses) {
  // No machine maps a PiB.
  try {
    Tensor::Empty({int64_t{1} << 50}, DType::kU8);
    FAIL() << "nothing was refused";
  } catch (const OutOfMemoryError& error) {
    EXPECT_THAT(error.what(), HasSubstr("1.00 PiB asked for other, "));
    EXPECT_GT(error.request().total, 0);
    EXPECT_GT(error.request().free, 0);
    EXPECT_LT(error.request().free, error.request().total);
  }
  EXPECT_NO_THROW(Tensor::Zeros({kMiB}, DType::kU8));
}

}  // namespace
}  // namespace lacuna
