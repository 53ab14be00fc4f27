// Writing safetensors: one file, streamed, and the layout of a folder of several.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/io/file.h"
#include "core/shape.h"
#include "data/safetensors_format.h"

namespace lacuna {

// A tensor that is going to be written.
struct SafetensorsSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  int64_t bytes() const { return NumElements(shape) * SizeOf(dtype); }
};

// One file. Its tensors are known beforehand and stand by type, the widest first, then by name;
// what is written goes straight to its place, so no more of the model is in memory than the caller
// holds. The file has a temporary name (<path>.tmp.<pid>) until Close, and is removed if that is
// not reached.
class SafetensorsWriter {
 public:
  // Metadata "format": "pt", which readers ask for, is added to `metadata`.
  static absl::StatusOr<SafetensorsWriter> Create(
      const std::string& path, const std::vector<SafetensorsSpec>& tensors,
      const std::map<std::string, std::string>& metadata = {});
  SafetensorsWriter(SafetensorsWriter&&) = default;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = default;
  ~SafetensorsWriter();

  // The next `bytes` bytes of a tensor; tensors in any order, the parts of one in theirs.
  absl::Status Write(const std::string& name, const void* data, int64_t bytes);
  // Flushes to the device and gives the file its name. Every byte must have been written.
  absl::Status Close();

 private:
  struct Place {
    int64_t begin, end;  // bytes of the file
    int64_t next;
  };
  SafetensorsWriter(std::string path, FileDescriptor file)
      : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  FileDescriptor file_;
  std::map<std::string, Place> places_;
};

// A file of a folder.
struct SafetensorsFilePlan {
  std::string name;  // "model.safetensors" or "model-00002-of-00007.safetensors"
  std::vector<SafetensorsSpec> tensors;
};

// What most readers are used to.
inline constexpr int64_t kSafetensorsFileBytes = 5'000'000'000;
// Deals groups of tensors to files of at most max_bytes of tensors each. A group, e.g. a layer, is
// in one file where it fits one; a larger one is dealt by its subgroups (its routed experts are
// one), and a subgroup that fits no file has its own.
using SafetensorsGroup = std::vector<std::vector<SafetensorsSpec>>;  // subgroups
std::vector<SafetensorsFilePlan> PlanSafetensorsFiles(const std::vector<SafetensorsGroup>& groups,
                                                      int64_t max_bytes = kSafetensorsFileBytes);

// model.safetensors.index.json of several files, for the last step of writing a folder.
absl::Status WriteSafetensorsIndex(const std::string& folder,
                                   const std::vector<SafetensorsFilePlan>& files);

}  // namespace lacuna
