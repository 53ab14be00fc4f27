// The safetensors format (huggingface.co/docs/safetensors): a file is
//   u64, little endian    N, bytes of the header, at most 100,000,000
//   N bytes of JSON       {"name": {"dtype": "BF16", "shape": [2, 3],
//                         "data_offsets": [begin, end]}, ..., "__metadata__": {"format": "pt"}},
//                         padded with spaces
//   the buffer            row-major elements, little endian; offsets count from its first byte
// Tensors fill the buffer without gaps or overlaps, from its first byte to the file's last.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/dtype.h"

namespace lacuna {

inline constexpr int64_t kSafetensorsMaxHeader = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  std::string type;            // as the format calls it, "BF16"
  std::vector<int64_t> shape;  // of any rank, 0 included
  int64_t begin = 0;           // bytes of the buffer
  int64_t end = 0;

  int64_t bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsEntry> tensors;  // by offset
};

// Position in the format's list of types, narrow ones first; -1 for an unknown name.
int SafetensorsRank(std::string_view type);
std::string SafetensorsType(DType dtype);
// Empty for a type that Lacuna does not compute with ("F16", "F8_E4M3", ...).
std::optional<DType> DTypeOfSafetensors(std::string_view type);

// The header's JSON, `buffer_bytes` being what the file has behind it. Everything the format
// demands is checked; a DataError names `file` and the tensor.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view text,
                                                         int64_t buffer_bytes,
                                                         const std::string& file);
// Length and JSON, padded so that the buffer starts at a multiple of 8 bytes.
std::string FormatSafetensorsHeader(const SafetensorsHeader& header);

}  // namespace lacuna
