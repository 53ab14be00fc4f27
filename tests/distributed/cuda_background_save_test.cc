// A state on a card, saved in the background: what is written is what it was at Begin, and its flat
// buffers are copied at the speed of the link.
#include <gtest/gtest.h>

#include "core/stream.h"
#include "distributed/background_save.h"
#include "tests/distributed/checkpoint_case.h"
#include "tests/support/compare.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

TrainingState OnCard(const TrainingState& host) {
  TrainingState state = host;
  for (TensorSlice& slice : state.tensors) slice.tensor = slice.tensor.To(CudaDevice());
  return state;
}

TEST(CudaBackgroundSave, WritesWhatTheCardHeldAtItsBeginning) {
  const test::TempDir dir;
  const auto comm = MakeSelfCommunicator();
  CheckpointWriter writer(*comm, {.directory = dir.path()});
  auto snapshot = StateSnapshot::Reserve(OnCard(test::CheckpointState(0)));
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  BackgroundSave save(writer);
  for (const int64_t step : {1, 2}) {
    TrainingState state = OnCard(test::CheckpointState(step));
    double copy_seconds = 0;
    ASSERT_TRUE(save.Begin(step, state, *snapshot, &copy_seconds).ok());
    for (TensorSlice& slice : state.tensors) slice.tensor.Zero();
    const auto report = save.Finish();
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->state_hash, StateHash(test::CheckpointState(step)));
  }
}

TEST(CudaBackgroundSave, CopiesAFlatBufferAtTheSpeedOfTheLink) {
  constexpr int64_t kElements = int64_t{1} << 28, kTensors = 64;
  const Tensor flat = Tensor::Zeros({kElements}, DType::kF32, CudaDevice());
  TrainingState state;
  for (int64_t i = 0; i < kTensors; ++i)
    state.Add(fmt::format("t{}", i), flat.View(i * (kElements / kTensors), {kElements / kTensors}));
  const SteadyClock::time_point begin = SteadyClock::now();
  auto snapshot = StateSnapshot::Reserve(state);
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const double reserve = SecondsSince(begin);
  double best = 1e9;
  for (int i = 0; i < 4; ++i) {
    const SteadyClock::time_point copy = SteadyClock::now();
    const TrainingState host = snapshot->Take(state);
    best = std::min(best, SecondsSince(copy));
    EXPECT_EQ(host.tensors.back().tensor.data<float>()[0], 0.0f);
  }
  const double gigabytes = 4e-9 * static_cast<double>(kElements);
  std::printf("reserved at %.1f GB/s, copied at %.1f GB/s\n", gigabytes / reserve,
              gigabytes / best);
  // Pageable memory reaches a few GB/s, the slowest links of such cards 12.
  EXPECT_GT(gigabytes / best, 8);
}

}  // namespace
}  // namespace lacuna
