// One run a directory, also across processes and after a crash.
#include "distributed/run_lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;

TEST(RunLock, SecondRunIsTurnedAwayWithTheOwner) {
  const TempDir dir;
  auto first = RunLock::Acquire(dir / "runs/a");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->crashed_owner(), "");
  int pipes[2];
  ASSERT_EQ(::pipe(pipes), 0);
  if (::fork() == 0) {
    const auto second = RunLock::Acquire(dir / "runs/a");
    const std::string text = fmt::format("{} {}", static_cast<int>(ExitCodeOf(second.status())),
                                         Message(second.status()));
    ::_exit(::write(pipes[1], text.data(), text.size()) > 0 ? 0 : 1);
  }
  char buffer[500] = {};
  ASSERT_GT(::read(pipes[0], buffer, sizeof(buffer) - 1), 0);
  ::wait(nullptr);
  EXPECT_EQ(std::string(buffer).find(
                fmt::format("2 {}: in use by pid {} on ", dir / "runs/a", ::getpid())),
            0u)
      << buffer;
  EXPECT_NE(std::string(buffer).find(" since 20"), std::string::npos) << buffer;
  // Another directory is free, and this one is once the run is over.
  EXPECT_TRUE(RunLock::Acquire(dir / "runs/b").ok());
  first = absl::UnknownError("released");
  const auto third = RunLock::Acquire(dir / "runs/a");
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_EQ(third->crashed_owner(), "");
}

TEST(RunLock, ACrashedRunLetsGoAndIsNamed) {
  const TempDir dir;
  const pid_t child = ::fork();
  if (child == 0) {
    const auto lock = RunLock::Acquire(dir.path());
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  const auto lock = RunLock::Acquire(dir.path());
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_EQ(lock->crashed_owner().find(fmt::format("pid {} on ", child)), 0u)
      << lock->crashed_owner();
}

TEST(RunLock, ErrorsNameThePath) {
  const TempDir dir;
  ASSERT_TRUE(WriteFileDurably(dir / "file", "", ExitCode::kData).ok());
  const auto lock = RunLock::Acquire(dir / "file/run");
  EXPECT_EQ(Message(lock.status()), dir / "file/run: cannot create the directory: Not a directory");
}

}  // namespace
}  // namespace lacuna
