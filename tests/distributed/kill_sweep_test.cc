// A save that is killed, or whose disk fails, at each system call it makes: afterwards a complete
// checkpoint loads, never older than the last one that was reported as saved, and the next run goes
// on. The faults come from strace (LACUNA_STRACE), the saves are those of the save_steps program
// (LACUNA_SAVE_STEPS).
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "core/io/file.h"
#include "tests/distributed/checkpoint_case.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::SmallCheckpointState;
using test::TempDir;

constexpr ExitCode kCode = ExitCode::kData;
constexpr int kMaxCalls = 2000;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  LACUNA_CHECK(value != nullptr, "{} is not set", name);
  return value;
}

// What one run of save_steps printed and how it ended.
struct SaveRun {
  bool injected = false;  // there was a K-th call
  bool killed = false;
  bool refused = false;  // no lock, so no save
  int64_t last_saved = 1;
  std::vector<std::string> failures, warnings;
};

class KillSweep : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_FALSE(Start("", "1").killed);
    std::filesystem::rename(dir_ / "run", dir_ / "base");
  }

  // `prefix save_steps run steps`.
  std::string Program(const std::string& prefix, const std::string& steps) const {
    return fmt::format("{} {} {} {}", prefix, Environment("LACUNA_SAVE_STEPS"), dir_ / "run",
                       steps);
  }
  SaveRun Start(const std::string& prefix, const std::string& steps) {
    return StartCommand(Program(prefix, steps));
  }

  SaveRun StartCommand(const std::string& command) {
    const std::string log = dir_ / "log";
    const int status = std::system(fmt::format("{} 2>{}", command, log).c_str());
    SaveRun run;
    // The shell reports a child killed by a signal as 128 + its number; strace ends itself by the
    // same signal.
    run.killed = !WIFEXITED(status) || WEXITSTATUS(status) == 137;
    run.refused = !run.killed && WEXITSTATUS(status) == 2;
    EXPECT_TRUE(run.killed || run.refused || WEXITSTATUS(status) == 0)
        << command << ": exit code " << WEXITSTATUS(status);
    const absl::StatusOr<std::string> trace = ReadFile(dir_ / "trace", 1 << 24, kCode);
    run.injected = trace.ok() && trace->find("(INJECTED)") != std::string::npos;
    const std::string text = *ReadFile(log, 1 << 20, kCode);
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      const std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      if (line.starts_with("saved ")) run.last_saved = std::atoll(line.c_str() + 6);
      if (line.starts_with("failed ")) run.failures.push_back(line);
      if (line.starts_with("warning: ")) run.warnings.push_back(line);
    }
    return run;
  }

  void Restore() {
    std::filesystem::remove_all(dir_ / "run");
    std::filesystem::copy(dir_ / "base", dir_ / "run", std::filesystem::copy_options::recursive);
  }

  // strace with a fault from the K-th call of `syscall` on.
  std::string Inject(const std::string& syscall, const std::string& fault,
                     const std::string& when) const {
    return fmt::format("{} -qq -f -o {} -e trace={} -e inject={}:{}:when={}",
                       Environment("LACUNA_STRACE"), dir_ / "trace", syscall, syscall, fault, when);
  }

  // A complete checkpoint with the right contents loads, at least as new as what was reported.
  void ExpectLoads(int64_t at_least, const std::string& what) {
    const auto comm = MakeSelfCommunicator();
    TrainingState state = SmallCheckpointState(-1);
    LoadOptions options;
    options.warn = [&](const std::string& text) { ADD_FAILURE() << what << ": " << text; };
    const auto loaded = LoadCheckpoint(*comm, dir_ / "run/ckpt", state, options);
    ASSERT_TRUE(loaded.ok()) << what << ": " << loaded.status();
    EXPECT_GE(loaded->step, at_least) << what;
    EXPECT_EQ(StateHash(state), StateHash(SmallCheckpointState(loaded->step)))
        << what << " step " << loaded->step;
  }

  // Either rank, at each of these calls; -> in how many runs it was killed.
  int KillOneRankOfTwo(const std::vector<std::string>& syscalls, const std::vector<int>& calls,
                       const std::string& steps) {
    const std::string launch =
        Environment("LACUNA_MPIEXEC") + " --allow-run-as-root --oversubscribe --bind-to none";
    int kills = 0;
    for (const int victim : {0, 1}) {
      for (const std::string& syscall : syscalls) {
        for (const int call : calls) {
          const std::string what = fmt::format("rank {} killed at {} {}", victim, syscall, call);
          Restore();
          const std::string traced =
              " -n 1 " + Program(Inject(syscall, "signal=SIGKILL", std::to_string(call)), steps);
          const std::string plain = " -n 1 " + Program("", steps);
          const SaveRun run =
              StartCommand(launch + (victim == 0 ? traced + " :" + plain : plain + " :" + traced));
          kills += run.killed ? 1 : 0;
          EXPECT_TRUE(run.killed || run.last_saved == 3) << what;
          ExpectLoads(run.last_saved, what);
        }
      }
    }
    std::printf("%d kills\n", kills);
    return kills;
  }

  void ExpectClean(const std::string& what) {
    const auto names = ListDirectory(dir_ / "run/ckpt", kCode);
    ASSERT_TRUE(names.ok());
    for (const std::string& name : *names)
      EXPECT_EQ(name.find(".tmp."), std::string::npos) << what << " left " << name;
  }

  // Kills of `steps`, whose last is `last`, at every call of each of the system calls in turn. ->
  // their number for each.
  std::map<std::string, int> SweepKills(const std::string& steps, int64_t last) {
    std::map<std::string, int> kills;
    for (const char* syscall : {"mkdir", "ftruncate", "pwrite64", "fsync", "rename", "renameat2",
                                "unlink", "unlinkat", "write", "close"}) {
      int& calls = kills[syscall];
      for (bool killed = true; killed && calls < kMaxCalls;) {
        const std::string what = fmt::format("{}: killed at {} {}", steps, syscall, calls + 1);
        Restore();
        const SaveRun run =
            Start(Inject(syscall, "signal=SIGKILL", std::to_string(calls + 1)), steps);
        killed = run.killed;
        EXPECT_TRUE(killed || run.last_saved == last) << what;
        ExpectLoads(run.last_saved, what);
        // The next run removes what is left and saves again; every few calls, for its time.
        if (killed && calls % 5 == 0) {
          EXPECT_EQ(Start("", "4").last_saved, 4) << what;
          ExpectLoads(4, what);
          ExpectClean(what);
        }
        calls += killed ? 1 : 0;
      }
      EXPECT_LT(calls, kMaxCalls);
    }
    return kills;
  }

  TempDir dir_;
};

void ExpectAllCovered(const std::map<std::string, int>& kills) {
  int total = 0;
  for (const auto& [syscall, count] : kills) {
    EXPECT_GT(count, 0) << "no " << syscall << " in a save: the sweep does not cover what it says";
    total += count;
  }
  std::printf("%d kills\n", total);
}

// Steps 2, 2 and 3 after a step 1: a first save, one that replaces a checkpoint, one that lets an
// older one go.
constexpr char kSteps[] = "2 2 3";
// In the background.
constexpr char kLetsOneGo[] = "b2", kReplaces[] = "b1";

TEST_F(KillSweep, KilledAtEverySystemCallOfTheSave) {
  ExpectAllCovered(SweepKills(kSteps, 3));
}

// One save a run: strace counts a thread's calls, and each phase of a save has a thread of its own.
TEST_F(KillSweep, KilledAtEverySystemCallOfASaveInTheBackground) {
  std::map<std::string, int> kills = SweepKills(kLetsOneGo, 2);
  for (const auto& [syscall, count] : SweepKills(kReplaces, 1)) kills[syscall] += count;
  ExpectAllCovered(kills);
}

// One rank of two is killed; mpirun ends the other one wherever it is.
TEST_F(KillSweep, OneRankOfTwoKilledDuringTheSave) {
  EXPECT_GE(KillOneRankOfTwo({"fsync", "rename"}, {1, 4, 7, 10}, kSteps), 8);
}

TEST_F(KillSweep, OneRankOfTwoKilledDuringASaveInTheBackground) {
  EXPECT_GE(KillOneRankOfTwo({"fsync", "pwrite64", "rename"}, {1, 2}, "b2 3"), 8);
}

struct Fault {
  const char* syscall;
  const char* error;
  bool persistent;  // every call from the K-th on
};

class FailingDisk : public KillSweep, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Saves, FailingDisk, testing::Values(kSteps, kLetsOneGo, kReplaces));

TEST_P(FailingDisk, KeepsTheOldCheckpointAndTheRunGoesOn) {
  int total = 0;
  for (const Fault& fault : {Fault{"pwrite64", "ENOSPC", false}, Fault{"pwrite64", "ENOSPC", true},
                             Fault{"fsync", "EIO", false}, Fault{"rename", "EIO", false},
                             Fault{"renameat2", "EIO", false}, Fault{"renameat2", "EINVAL", false},
                             Fault{"mkdir", "EROFS", false}, Fault{"ftruncate", "EDQUOT", false}}) {
    int calls = 0;
    for (bool hit = true; hit; ++calls) {
      ASSERT_LT(calls, kMaxCalls);
      const std::string what = fmt::format("{} at {} {}{}", fault.error, fault.syscall, calls + 1,
                                           fault.persistent ? " and after" : "");
      Restore();
      const SaveRun run = Start(Inject(fault.syscall, fmt::format("error={}", fault.error),
                                       fmt::format("{}{}", calls + 1, fault.persistent ? "+" : "")),
                                GetParam());
      EXPECT_FALSE(run.killed) << what;
      hit = run.injected;
      ExpectLoads(run.last_saved, what);
      // Only what stands between the final rename and its flush is left for the next start to
      // judge.
      const bool unsure =
          !run.failures.empty() &&
          run.failures[0].find("may not survive a power failure") != std::string::npos;
      if (!unsure) ExpectClean(what);
      total += run.failures.empty() ? 0 : 1;
      // Where renameat2 knows no exchange, another way is taken.
      EXPECT_TRUE(std::string(fault.error) != "EINVAL" || run.failures.empty()) << what;
      EXPECT_TRUE(fault.persistent || run.failures.size() + run.warnings.size() <= 1) << what;
      for (const std::string& failure : run.failures) {
        EXPECT_NE(failure.find(": checkpoint step "), std::string::npos) << failure;
        EXPECT_TRUE(unsure || failure.find("kept step ") != std::string::npos) << failure;
        const bool full =
            std::string(fault.error) == "ENOSPC" || std::string(fault.error) == "EDQUOT";
        EXPECT_TRUE(!full || failure.find(" (need ") != std::string::npos) << failure;
      }
    }
  }
  std::printf("%d failed saves\n", total);
  EXPECT_GT(total, 0);
}

}  // namespace
}  // namespace lacuna
