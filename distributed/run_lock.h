// One run a directory: <run_dir>/.lock is held (flock) by the run's rank 0 and says who holds it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "core/io/file.h"

namespace lacuna {

class RunLock {
 public:
  // Makes run_dir if need be. Where another run holds it, an error with ExitCode::kConfig:
  // "runs/a: in use by pid 4711 on nodeA since 2026-01-31T12:00:00Z". The kernel lets go of the
  // lock of a process that died.
  static absl::StatusOr<RunLock> Acquire(const std::string& run_dir);
  RunLock(RunLock&&) = default;
  RunLock& operator=(RunLock&&) = default;
  ~RunLock();

  const std::string& run_dir() const { return run_dir_; }
  // "pid 4711 on nodeA since ..." where the run before this one did not end in good order, else
  // empty.
  const std::string& crashed_owner() const { return crashed_owner_; }

 private:
  RunLock(std::string run_dir, FileDescriptor file)
      : run_dir_(std::move(run_dir)), file_(std::move(file)) {}

  std::string run_dir_;
  FileDescriptor file_;
  std::string crashed_owner_;
};

// "2026-01-31T12:00:00Z"
std::string UtcNow();

}  // namespace lacuna
