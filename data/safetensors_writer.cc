#include "data/safetensors_writer.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/status.h"
#include "data/tokenizer/utf8.h"

namespace lacuna {
namespace {

constexpr ExitCode kCode = ExitCode::kData;

std::string TemporaryName(const std::string& path) {
  return fmt::format("{}.tmp.{}", path, ::getpid());
}

SafetensorsHeader LayOut(std::vector<SafetensorsSpec> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsSpec& a, const SafetensorsSpec& b) {
    const int x = SafetensorsRank(SafetensorsType(a.dtype)),
              y = SafetensorsRank(SafetensorsType(b.dtype));
    return x != y ? x > y : a.name < b.name;
  });
  SafetensorsHeader header;
  int64_t offset = 0;
  for (const SafetensorsSpec& spec : tensors) {
    LACUNA_CHECK(FirstInvalidUtf8(spec.name) < 0 && spec.name != "__metadata__",
                 "\"{}\" is no name of a tensor", spec.name);
    header.tensors.push_back({.name = spec.name,
                              .type = SafetensorsType(spec.dtype),
                              .shape = {spec.shape.begin(), spec.shape.end()},
                              .begin = offset,
                              .end = offset + spec.bytes()});
    offset += spec.bytes();
  }
  return header;
}

int64_t BytesOf(const std::vector<SafetensorsSpec>& tensors) {
  int64_t bytes = 0;
  for (const SafetensorsSpec& spec : tensors) bytes += spec.bytes();
  return bytes;
}

int64_t BytesOf(const SafetensorsGroup& group) {
  int64_t bytes = 0;
  for (const auto& subgroup : group) bytes += BytesOf(subgroup);
  return bytes;
}

}  // namespace

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(
    const std::string& path, const std::vector<SafetensorsSpec>& tensors,
    const std::map<std::string, std::string>& metadata) {
  SafetensorsHeader header = LayOut(tensors);
  header.metadata = metadata;
  header.metadata.emplace("format", "pt");
  const std::string head = FormatSafetensorsHeader(header);
  const auto head_bytes = static_cast<int64_t>(head.size());
  LACUNA_ASSIGN_OR_RETURN(FileDescriptor file, FileDescriptor::Create(TemporaryName(path), kCode));
  SafetensorsWriter writer(path, std::move(file));
  int64_t size = head_bytes;
  for (const SafetensorsEntry& entry : header.tensors) {
    const Place place{head_bytes + entry.begin, head_bytes + entry.end, head_bytes + entry.begin};
    LACUNA_CHECK(writer.places_.emplace(entry.name, place).second, "two tensors are named {}",
                 entry.name);
    size = place.end;
  }
  LACUNA_RETURN_IF_ERROR(writer.file_.Truncate(size));
  LACUNA_RETURN_IF_ERROR(writer.file_.WriteAt(0, head.data(), head_bytes));
  return writer;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_.get() >= 0) ::unlink(file_.path().c_str());
}

absl::Status SafetensorsWriter::Write(const std::string& name, const void* data, int64_t bytes) {
  const auto found = places_.find(name);
  LACUNA_CHECK(found != places_.end(), "{}: has no tensor {}", path_, name);
  Place& place = found->second;
  LACUNA_CHECK(bytes <= place.end - place.next, "{}: {} bytes more than {} has", path_,
               bytes - (place.end - place.next), name);
  LACUNA_RETURN_IF_ERROR(file_.WriteAt(place.next, data, bytes));
  place.next += bytes;
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Close() {
  for (const auto& [name, place] : places_)
    LACUNA_CHECK(place.next == place.end, "{}: {} bytes of {} are missing", path_,
                 place.end - place.next, name);
  LACUNA_RETURN_IF_ERROR(file_.Sync());
  LACUNA_RETURN_IF_ERROR(RenamePath(file_.path(), path_, kCode));
  const size_t slash = path_.rfind('/');
  LACUNA_RETURN_IF_ERROR(file_.Close());
  return FsyncDirectory(slash == std::string::npos ? "." : path_.substr(0, slash + 1), kCode);
}

std::vector<SafetensorsFilePlan> PlanSafetensorsFiles(const std::vector<SafetensorsGroup>& groups,
                                                      int64_t max_bytes) {
  std::vector<SafetensorsFilePlan> files;
  const auto put = [&](const std::vector<SafetensorsSpec>& tensors, bool fits) {
    if (!fits || files.empty()) files.emplace_back();
    auto& last = files.back().tensors;
    last.insert(last.end(), tensors.begin(), tensors.end());
  };
  for (const SafetensorsGroup& group : groups) {
    const int64_t bytes = BytesOf(group);
    const bool whole = bytes <= max_bytes;  // its parts then follow the first one
    for (size_t i = 0; i < group.size(); ++i) {
      const int64_t held = files.empty() ? 0 : BytesOf(files.back().tensors);
      const int64_t needed = whole ? (i == 0 ? bytes : 0) : BytesOf(group[i]);
      put(group[i], held + needed <= max_bytes);
    }
  }
  if (files.empty()) files.emplace_back();
  for (size_t i = 0; i < files.size(); ++i) {
    files[i].name = files.size() == 1
                        ? "model.safetensors"
                        : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size());
  }
  return files;
}

absl::Status WriteSafetensorsIndex(const std::string& folder,
                                   const std::vector<SafetensorsFilePlan>& files) {
  int64_t total = 0;
  std::map<std::string, std::string> weight_map;
  for (const SafetensorsFilePlan& file : files) {
    total += BytesOf(file.tensors);
    for (const SafetensorsSpec& spec : file.tensors) weight_map[spec.name] = file.name;
  }
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}},
                                        {"weight_map", weight_map}};
  return WriteFileDurably(folder + "/model.safetensors.index.json", index.dump(2) + "\n", kCode);
}

}  // namespace lacuna
