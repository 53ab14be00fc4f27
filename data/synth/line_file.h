// A text file written piece by piece that appears under its name when it is complete.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/io/file.h"

namespace lacuna {

class LineFile {
 public:
  // Writes to <path>.tmp.<pid> until Finish. Failures carry `code`.
  static absl::StatusOr<LineFile> Create(const std::string& path, ExitCode code);
  LineFile(LineFile&& other) noexcept = default;
  LineFile& operator=(LineFile&&) = delete;
  // Removes what was not finished.
  ~LineFile();

  absl::Status Append(std::string_view text);
  // Everything is on the device, the file in its place; what was there before is replaced.
  absl::Status Finish();

 private:
  LineFile(FileDescriptor file, std::string path, ExitCode code);
  absl::Status Flush();

  std::unique_ptr<FileDescriptor> file_;  // null once it is finished or moved from
  std::string path_;
  ExitCode code_;
  std::string pending_;
  int64_t written_ = 0;
};

}  // namespace lacuna
