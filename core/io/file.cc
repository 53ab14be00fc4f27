#include "core/io/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"

namespace lacuna {
namespace {

constexpr char kErrnoKey[] = "lacuna.errno";

int OpenRetrying(const char* path, int flags, mode_t mode = 0) {
  int fd;
  do {
    fd = ::open(path, flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

absl::Status WriteTemporary(const std::string& path, std::string_view bytes, ExitCode code) {
  LACUNA_ASSIGN_OR_RETURN(FileDescriptor file, FileDescriptor::Create(path, code));
  LACUNA_RETURN_IF_ERROR(file.WriteAt(0, bytes.data(), static_cast<int64_t>(bytes.size())));
  LACUNA_RETURN_IF_ERROR(file.Sync());
  return file.Close();
}

}  // namespace

absl::Status FileError(ExitCode code, const std::string& path, const std::string& action,
                       int error) {
  absl::Status status =
      MakeError(code, fmt::format("{}: cannot {}: {}", path, action, std::strerror(error)));
  status.SetPayload(kErrnoKey, absl::Cord(std::to_string(error)));
  return status;
}

int ErrnoOf(const absl::Status& status) {
  int error = 0;
  const auto payload = status.GetPayload(kErrnoKey);
  if (payload && !absl::SimpleAtoi(std::string(*payload), &error)) error = 0;
  return error;
}

absl::StatusOr<FileDescriptor> FileDescriptor::OpenRead(const std::string& path, ExitCode code) {
  // O_NONBLOCK: opening a named pipe would otherwise wait for a writer before it can be refused.
  const int fd = OpenRetrying(path.c_str(), O_RDONLY | O_NONBLOCK);
  if (fd < 0) return FileError(code, path, "open", errno);
  FileDescriptor file(fd, path, code);
  struct stat info;
  if (::fstat(fd, &info) != 0) return FileError(code, path, "stat", errno);
  if (S_ISDIR(info.st_mode)) return FileError(code, path, "read", EISDIR);
  if (!S_ISREG(info.st_mode)) return MakeError(code, fmt::format("{}: not a regular file", path));
  return file;
}

absl::StatusOr<FileDescriptor> FileDescriptor::Create(const std::string& path, ExitCode code) {
  const int fd = OpenRetrying(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0666);
  if (fd < 0) return FileError(code, path, "create", errno);
  return FileDescriptor(fd, path, code);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(code_, other.code_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

absl::StatusOr<int64_t> FileDescriptor::Size() const {
  struct stat info;
  if (::fstat(fd_, &info) != 0) return FileError(code_, path_, "stat", errno);
  return static_cast<int64_t>(info.st_size);
}

absl::Status FileDescriptor::ReadAt(int64_t offset, void* data, int64_t bytes) const {
  char* out = static_cast<char*>(data);
  for (int64_t done = 0; done < bytes;) {
    const ssize_t got = ::pread(fd_, out + done, static_cast<size_t>(bytes - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(code_, path_, "read", errno);
    if (got == 0)
      return MakeError(code_, fmt::format("{}: ends at byte {}, expected at least {}", path_,
                                          offset + done, offset + bytes));
    done += got;
  }
  return absl::OkStatus();
}

absl::Status FileDescriptor::WriteAt(int64_t offset, const void* data, int64_t bytes) {
  const char* in = static_cast<const char*>(data);
  for (int64_t done = 0; done < bytes;) {
    const ssize_t put = ::pwrite(fd_, in + done, static_cast<size_t>(bytes - done), offset + done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return FileError(code_, path_, "write", errno);
    if (put == 0) return FileError(code_, path_, "write", ENOSPC);
    done += put;
  }
  return absl::OkStatus();
}

absl::Status FileDescriptor::Truncate(int64_t bytes) {
  if (::ftruncate(fd_, bytes) != 0) return FileError(code_, path_, "set its size", errno);
  return absl::OkStatus();
}

absl::Status FileDescriptor::Sync() {
  // Not repeated on EINTR-like failures: after a failed fsync the kernel may have dropped the dirty
  // pages and report success.
  if (::fsync(fd_) != 0) return FileError(code_, path_, "flush to disk", errno);
  return absl::OkStatus();
}

absl::Status FileDescriptor::Close() {
  // Linux frees the descriptor whatever close says.
  if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR)
    return FileError(code_, path_, "close", errno);
  return absl::OkStatus();
}

bool PathExists(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes, ExitCode code) {
  LACUNA_ASSIGN_OR_RETURN(FileDescriptor file, FileDescriptor::OpenRead(path, code));
  LACUNA_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  if (size > max_bytes) {
    return MakeError(
        code, fmt::format("{}: has {} bytes, allowed are at most {}", path, size, max_bytes));
  }
  std::string bytes(static_cast<size_t>(size), '\0');
  LACUNA_RETURN_IF_ERROR(file.ReadAt(0, bytes.data(), size));
  return bytes;
}

absl::Status WriteFileDurably(const std::string& path, std::string_view bytes, ExitCode code) {
  const std::string temporary = fmt::format("{}.tmp.{}", path, ::getpid());
  absl::Status status = WriteTemporary(temporary, bytes, code);
  if (status.ok()) status = RenamePath(temporary, path, code);
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return FsyncDirectory(ParentOf(path), code);
}

absl::Status FsyncDirectory(const std::string& path, ExitCode code) {
  const int fd = OpenRetrying(path.c_str(), O_RDONLY | O_DIRECTORY);
  if (fd < 0) return FileError(code, path, "open", errno);
  FileDescriptor directory(fd, path, code);
  return directory.Sync();
}

absl::Status MakeDirectories(const std::string& path, ExitCode code) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FileError(code, path, "create the directory", error.value());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path, ExitCode code) {
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return FileError(code, path, "list", errno);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  const int error = errno;
  ::closedir(directory);
  if (error != 0) return FileError(code, path, "list", error);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status RenamePath(const std::string& from, const std::string& to, ExitCode code) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    return FileError(code, from, "rename to " + to, errno);
  return absl::OkStatus();
}

absl::Status ReplaceDirectory(const std::string& from, const std::string& to, ExitCode code) {
  if (!PathExists(to)) return RenamePath(from, to, code);
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0)
    return absl::OkStatus();
  if (errno != EINVAL && errno != ENOSYS)
    return FileError(code, from, "exchange with " + to, errno);
  // Network file systems know no exchange; a kill between the two renames leaves `from` complete
  // but under its old name.
  const std::string aside = from + ".replaced";
  LACUNA_RETURN_IF_ERROR(RenamePath(to, aside, code));
  LACUNA_RETURN_IF_ERROR(RenamePath(from, to, code));
  return RenamePath(aside, from, code);
}

absl::Status RemoveTree(const std::string& path, ExitCode code) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return FileError(code, path, "remove", error.value());
  return absl::OkStatus();
}

absl::StatusOr<int64_t> FreeBytes(const std::string& path, ExitCode code) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) != 0)
    return FileError(code, path, "ask for free space", errno);
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

std::string FormatBytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  int unit = 0;
  // 999.95 would be printed as 1000.0.
  while (value >= 999.95 && unit < 5) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace lacuna
