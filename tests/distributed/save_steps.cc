// save_steps DIRECTORY STEP...: saves the test state of each step in turn, as a run does: its lock,
// what killed saves left removed, one checkpoint kept. "b7" saves step 7 in the background. Rank 0
// prints "saved N" or "failed N: <message>" for each; the exit code is 0 either way, 2 without the
// lock.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>

#include "distributed/background_save.h"
#include "tests/distributed/checkpoint_case.h"

namespace lacuna {
namespace {

absl::StatusOr<SaveReport> SaveInBackground(CheckpointWriter& writer, int64_t step) {
  TrainingState state = test::SmallCheckpointState(step);
  absl::StatusOr<StateSnapshot> snapshot = StateSnapshot::Reserve(writer.ShareOf(state));
  LACUNA_RETURN_IF_ERROR(snapshot.status());
  BackgroundSave save(writer);
  double copy_seconds = 0;
  LACUNA_RETURN_IF_ERROR(save.Begin(step, state, *snapshot, &copy_seconds));
  for (TensorSlice& slice : state.tensors) slice.tensor.Zero();  // training goes on
  return save.Finish();
}

}  // namespace
}  // namespace lacuna

int main(int argc, char** argv) {
  using namespace lacuna;
  auto comm = MakeCommunicator();
  if (!comm.ok() || argc < 3) return 2;
  const std::string directory = argv[1];
  CheckpointWriter writer(**comm, {.directory = directory + "/ckpt", .keep_latest = 1});
  std::optional<RunLock> lock;
  const auto print = [&](const std::string& line) {
    const std::string text = line + "\n";
    if ((*comm)->rank() == 0 && ::write(STDERR_FILENO, text.data(), text.size()) < 0) std::abort();
  };
  if ((*comm)->rank() == 0) {
    auto acquired = RunLock::Acquire(directory);
    if (!acquired.ok()) return 2;
    lock = *std::move(acquired);
    const absl::Status removed = writer.RemoveStale(*lock);
    if (!removed.ok()) print("warning: " + Message(removed));
  }
  for (int i = 2; i < argc; ++i) {
    const bool in_background = argv[i][0] == 'b';
    const int64_t step = std::atoll(argv[i] + (in_background ? 1 : 0));
    const auto report = in_background ? SaveInBackground(writer, step)
                                      : writer.Save(step, test::SmallCheckpointState(step));
    if (report.ok()) {
      for (const std::string& warning : report->warnings) print("warning: " + warning);
      print(fmt::format("saved {}", step));
    } else {
      print(fmt::format("failed {}: {}", step, Message(report.status())));
    }
  }
}
