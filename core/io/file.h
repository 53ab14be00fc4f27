// Files and directories with every failure reported: one line with the path, what was tried and the
// system's reason.
//
// Every function takes the exit code that a failure carries (core/status.h), because the same file
// operation is a data error for a token shard and a checkpoint error for a checkpoint. Short reads,
// short writes and EINTR are continued, never reported.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/status.h"

namespace lacuna {

// "<path>: cannot <action>: <strerror(error)>"; ErrnoOf gives the number back.
absl::Status FileError(ExitCode code, const std::string& path, const std::string& action,
                       int error);
// The errno behind a status made here; 0 where there is none.
int ErrnoOf(const absl::Status& status);

// An open file. Offsets and sizes in bytes.
class FileDescriptor {
 public:
  // A regular file; anything else (a folder, a pipe) is an error, at once.
  static absl::StatusOr<FileDescriptor> OpenRead(const std::string& path, ExitCode code);
  // Creates or truncates; readable, too.
  static absl::StatusOr<FileDescriptor> Create(const std::string& path, ExitCode code);
  // Takes over an open descriptor; `path` is only for messages.
  FileDescriptor(int fd, std::string path, ExitCode code)
      : fd_(fd), path_(std::move(path)), code_(code) {}
  FileDescriptor(FileDescriptor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)), code_(other.code_) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int get() const { return fd_; }
  const std::string& path() const { return path_; }
  absl::StatusOr<int64_t> Size() const;
  // All `bytes`, or an error; a file that ends early is one.
  absl::Status ReadAt(int64_t offset, void* data, int64_t bytes) const;
  absl::Status WriteAt(int64_t offset, const void* data, int64_t bytes);
  absl::Status Truncate(int64_t bytes);  // or extends with zeros
  // What was written is on the device when this returns OK.
  absl::Status Sync();
  // Reports what a destructor could not: some file systems fail a write only here.
  absl::Status Close();

 private:
  int fd_;
  std::string path_;
  ExitCode code_;
};

bool PathExists(const std::string& path);
// A regular file's bytes; an error where it has more than max_bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes, ExitCode code);
// Replaces `path` at once and for good: <path>.tmp.<pid>, fsync, rename, fsync of the directory.
// After a kill at any instant `path` holds the old bytes or the new ones. On failure the temporary
// file is removed.
absl::Status WriteFileDurably(const std::string& path, std::string_view bytes, ExitCode code);

absl::Status FsyncDirectory(const std::string& path, ExitCode code);
// Like mkdir -p.
absl::Status MakeDirectories(const std::string& path, ExitCode code);
// Names (without "." and ".."), sorted.
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path, ExitCode code);
absl::Status RenamePath(const std::string& from, const std::string& to, ExitCode code);
// Makes `from` take the place of `to` in one step where the file system can (then `from` holds what
// `to` was), else by moving `to` aside first. `to` need not exist.
absl::Status ReplaceDirectory(const std::string& from, const std::string& to, ExitCode code);
// Removes a file or a whole directory without following symbolic links. A missing path is fine.
absl::Status RemoveTree(const std::string& path, ExitCode code);
// Bytes an unprivileged process may still write on the file system of `path`.
absl::StatusOr<int64_t> FreeBytes(const std::string& path, ExitCode code);

// "41.2 GB", "512 B": powers of 1000.
std::string FormatBytes(int64_t bytes);

}  // namespace lacuna
