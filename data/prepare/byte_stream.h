// The bytes of a file one after the other, decompressed where its name ends in .gz or .zst.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace lacuna {

class ByteStream {
 public:
  // Errors are DataErrors; a damaged or cut compressed file is one.
  static absl::StatusOr<std::unique_ptr<ByteStream>> Open(const std::string& path);
  virtual ~ByteStream() = default;

  // Up to `bytes` bytes; 0 only at the end.
  virtual absl::StatusOr<int64_t> Read(char* data, int64_t bytes) = 0;
};

// `path` without ".gz" or ".zst".
std::string UncompressedName(const std::string& path);

}  // namespace lacuna
