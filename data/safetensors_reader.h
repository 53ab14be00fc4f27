// Reading safetensors: one file, or a folder of them as Hugging Face's libraries write it.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor.h"
#include "data/mapped_file.h"
#include "data/safetensors_format.h"

namespace lacuna {

// One file, mapped into memory: tensors that nobody looks at are never read.
class SafetensorsReader {
 public:
  // Checks the whole header (data/safetensors_format.h). Errors are DataErrors, one line each.
  static absl::StatusOr<SafetensorsReader> Open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const std::vector<SafetensorsEntry>& tensors() const { return header_.tensors; }  // by offset
  // Null where there is none of that name.
  const SafetensorsEntry* Find(const std::string& name) const;

  // First byte of a tensor of this file; not aligned to its elements.
  const char* Data(const SafetensorsEntry& entry) const { return buffer_ + entry.begin; }
  // A copy; of a tensor without dimensions one of shape [1]. A DataError for a type that Lacuna
  // does not compute with, or a rank above kMaxRank.
  absl::StatusOr<Tensor> Read(const SafetensorsEntry& entry) const;

 private:
  SafetensorsReader() = default;

  std::string path_;
  MappedFile file_;
  const char* buffer_ = nullptr;
  SafetensorsHeader header_;
  std::map<std::string, size_t> index_;
};

// All tensors of a folder: of model.safetensors, or of the files that model.safetensors.index.json
// lists.
class SafetensorsFolder {
 public:
  // Besides each file's checks: the index and the files hold the same names, each once.
  static absl::StatusOr<SafetensorsFolder> Open(const std::string& folder);

  struct Item {
    const SafetensorsReader* file = nullptr;
    const SafetensorsEntry* entry = nullptr;
    const char* data() const { return file->Data(*entry); }
  };
  // By name.
  const std::map<std::string, Item>& tensors() const { return tensors_; }
  const std::vector<SafetensorsReader>& files() const { return files_; }

 private:
  SafetensorsFolder() = default;

  std::vector<SafetensorsReader> files_;
  std::map<std::string, Item> tensors_;
};

}  // namespace lacuna
