#include "distributed/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "core/host_name.h"

namespace lacuna {
namespace {

constexpr ExitCode kCode = ExitCode::kConfig;
constexpr int64_t kMaxOwnerBytes = 4096;

// What the file says, without control characters: it may be anybody's.
std::string ReadOwner(const FileDescriptor& file) {
  const absl::StatusOr<int64_t> size = file.Size();
  if (!size.ok()) return "";
  std::string owner(static_cast<size_t>(std::min(*size, kMaxOwnerBytes)), '\0');
  if (!file.ReadAt(0, owner.data(), static_cast<int64_t>(owner.size())).ok()) return "";
  std::erase_if(owner, [](char c) { return static_cast<unsigned char>(c) < ' '; });
  return owner;
}

}  // namespace

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

absl::StatusOr<RunLock> RunLock::Acquire(const std::string& run_dir) {
  LACUNA_RETURN_IF_ERROR(MakeDirectories(run_dir, kCode));
  const std::string path = run_dir + "/.lock";
  // Not truncated before it is ours: it names the run that holds it.
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return FileError(kCode, path, "open", errno);
  RunLock lock(run_dir, FileDescriptor(fd, path, kCode));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return FileError(kCode, path, "lock", errno);
    const std::string owner = ReadOwner(lock.file_);
    // The owner's text stays its own when this object goes.
    lock.run_dir_.clear();
    return MakeError(kCode,
                     fmt::format("{}: in use by {}", run_dir,
                                 owner.empty() ? "another run that is just starting" : owner));
  }
  lock.crashed_owner_ = ReadOwner(lock.file_);
  const std::string owner = fmt::format("pid {} on {} since {}", ::getpid(), HostName(), UtcNow());
  LACUNA_RETURN_IF_ERROR(lock.file_.Truncate(0));
  LACUNA_RETURN_IF_ERROR(lock.file_.WriteAt(0, owner.data(), static_cast<int64_t>(owner.size())));
  return lock;
}

RunLock::~RunLock() {
  // Emptied, not removed: between a removal and the next creation two runs could lock two files of
  // one name.
  if (file_.get() >= 0 && !run_dir_.empty()) (void)file_.Truncate(0);
}

}  // namespace lacuna
