// TensorBoard event files: scalar summaries as length-delimited protocol buffers with masked
// CRC-32C (TFRecord).
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace lacuna {

class EventFile {
 public:
  // Creates <directory>/events.out.tfevents.<unix seconds>.<host>.
  static absl::StatusOr<EventFile> Create(const std::string& directory);
  EventFile(EventFile&& other) noexcept : file_(std::exchange(other.file_, nullptr)) {}
  EventFile& operator=(EventFile&& other) noexcept;
  ~EventFile();

  // One event with all scalars of a step. Failing to write is reported once by the caller and never
  // ends a run.
  bool Write(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

 private:
  explicit EventFile(std::FILE* file) : file_(file) {}
  bool WriteRecord(const std::string& payload);

  std::FILE* file_ = nullptr;
};

// CRC-32C (Castagnoli) of data, as TFRecord stores it: rotated right by 15 bits plus a constant.
uint32_t MaskedCrc32c(const std::string& data);

}  // namespace lacuna
