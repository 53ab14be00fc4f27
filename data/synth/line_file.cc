#include "data/synth/line_file.h"

#include <unistd.h>

#include <filesystem>

namespace lacuna {

LineFile::LineFile(FileDescriptor file, std::string path, ExitCode code)
    : file_(std::make_unique<FileDescriptor>(std::move(file))),
      path_(std::move(path)),
      code_(code) {}

absl::StatusOr<LineFile> LineFile::Create(const std::string& path, ExitCode code) {
  LACUNA_ASSIGN_OR_RETURN(FileDescriptor file,
                          FileDescriptor::Create(fmt::format("{}.tmp.{}", path, ::getpid()), code));
  return LineFile(std::move(file), path, code);
}

LineFile::~LineFile() {
  if (file_ != nullptr) ::unlink(file_->path().c_str());
}

absl::Status LineFile::Append(std::string_view text) {
  constexpr size_t kBuffer = size_t{1} << 20;
  pending_ += text;
  return pending_.size() < kBuffer ? absl::OkStatus() : Flush();
}

absl::Status LineFile::Flush() {
  const auto bytes = static_cast<int64_t>(pending_.size());
  LACUNA_RETURN_IF_ERROR(file_->WriteAt(written_, pending_.data(), bytes));
  written_ += bytes;
  pending_.clear();
  return absl::OkStatus();
}

absl::Status LineFile::Finish() {
  LACUNA_RETURN_IF_ERROR(Flush());
  LACUNA_RETURN_IF_ERROR(file_->Sync());
  LACUNA_RETURN_IF_ERROR(file_->Close());
  LACUNA_RETURN_IF_ERROR(RenamePath(file_->path(), path_, code_));
  file_.reset();
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  return FsyncDirectory(folder.empty() ? "." : folder, code_);
}

}  // namespace lacuna
