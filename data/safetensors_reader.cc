#include "data/safetensors_reader.h"

#include <algorithm>
#include <cstring>

#include "core/io/file.h"
#include "core/status.h"
#include "data/strict_json.h"

namespace lacuna {
namespace {

using nlohmann::json;

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMaxIndexBytes = kSafetensorsMaxHeader;

// Name of a file -> the tensors that the index says it holds.
absl::StatusOr<std::map<std::string, std::vector<std::string>>> ReadIndex(const std::string& path) {
  LACUNA_ASSIGN_OR_RETURN(const json index, ReadStrictJson(path, kMaxIndexBytes, 3));
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object() ||
      index["weight_map"].empty())
    return DataError("{}: has no weight_map", path);
  const json& map = index["weight_map"];
  std::map<std::string, std::vector<std::string>> files;
  for (auto entry = map.begin(); entry != map.end(); ++entry) {
    const std::string file = entry.value().is_string() ? entry.value().get<std::string>() : "";
    // Only files of this folder.
    if (file.empty() || file[0] == '.' || file.find_first_of(std::string("/\0", 2)) != file.npos)
      return DataError("{}: weight_map: {} is in {}, expected the name of a file of the folder",
                       path, Shown(entry.key()), Shown(entry.value()));
    files[file].push_back(entry.key());
  }
  return files;
}

// The file holds what the index says, no less and no more.
absl::Status CheckIndexed(const SafetensorsReader& file, const std::vector<std::string>& names,
                          const std::string& index) {
  for (const std::string& name : names) {
    if (file.Find(name) == nullptr)
      return DataError("{}: has no tensor {}, which {} says it has", file.path(), Shown(name),
                       index);
  }
  for (const SafetensorsEntry& entry : file.tensors()) {
    if (std::find(names.begin(), names.end(), entry.name) == names.end())
      return DataError("{}: tensor {}: is not in {} as one of this file", file.path(),
                       Shown(entry.name), index);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsReader> SafetensorsReader::Open(const std::string& path) {
  LACUNA_ASSIGN_OR_RETURN(const FileDescriptor descriptor,
                          FileDescriptor::OpenRead(path, ExitCode::kData));
  SafetensorsReader reader;
  reader.path_ = path;
  LACUNA_ASSIGN_OR_RETURN(reader.file_, MappedFile::Map(descriptor));
  const int64_t size = reader.file_.bytes();
  if (size < kLengthBytes)
    return DataError("{}: has {} bytes, a safetensors file has at least {}", path, size,
                     kLengthBytes);
  uint64_t length = 0;
  std::memcpy(&length, reader.file_.data(), sizeof(length));
  if (length > static_cast<uint64_t>(kSafetensorsMaxHeader))
    return DataError("{}: says that its header has {} bytes, allowed are at most {}", path, length,
                     kSafetensorsMaxHeader);
  const auto header_bytes = static_cast<int64_t>(length);
  if (header_bytes > size - kLengthBytes)
    return DataError("{}: says that its header has {} bytes, the file has {} behind the length",
                     path, header_bytes, size - kLengthBytes);
  if (header_bytes == 0) return DataError("{}: has an empty header", path);
  const std::string_view text(reader.file_.data() + kLengthBytes, length);
  LACUNA_ASSIGN_OR_RETURN(reader.header_,
                          ParseSafetensorsHeader(text, size - kLengthBytes - header_bytes, path));
  reader.buffer_ = reader.file_.data() + kLengthBytes + header_bytes;
  for (size_t i = 0; i < reader.header_.tensors.size(); ++i)
    reader.index_[reader.header_.tensors[i].name] = i;
  return reader;
}

const SafetensorsEntry* SafetensorsReader::Find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

absl::StatusOr<Tensor> SafetensorsReader::Read(const SafetensorsEntry& entry) const {
  const std::optional<DType> dtype = DTypeOfSafetensors(entry.type);
  if (!dtype)
    return DataError("{}: tensor {}: has dtype {}, which is not supported", path_,
                     Shown(entry.name), entry.type);
  if (entry.shape.size() > static_cast<size_t>(kMaxRank))
    return DataError("{}: tensor {}: has {} dimensions, supported are {}", path_, Shown(entry.name),
                     entry.shape.size(), kMaxRank);
  Shape shape(entry.shape.begin(), entry.shape.end());
  if (shape.empty()) shape = {1};
  Tensor tensor = Tensor::Empty(std::move(shape), *dtype);
  if (entry.bytes() > 0)
    std::memcpy(tensor.MutableRef().data, Data(entry), static_cast<size_t>(entry.bytes()));
  return tensor;
}

absl::StatusOr<SafetensorsFolder> SafetensorsFolder::Open(const std::string& folder) {
  SafetensorsFolder result;
  const std::string index = folder + "/model.safetensors.index.json";
  if (!PathExists(index)) {
    LACUNA_ASSIGN_OR_RETURN(SafetensorsReader file,
                            SafetensorsReader::Open(folder + "/model.safetensors"));
    result.files_.push_back(std::move(file));
  } else {
    LACUNA_ASSIGN_OR_RETURN(const auto listed, ReadIndex(index));
    for (const auto& [name, tensors] : listed) {
      LACUNA_ASSIGN_OR_RETURN(SafetensorsReader file, SafetensorsReader::Open(folder + "/" + name));
      LACUNA_RETURN_IF_ERROR(CheckIndexed(file, tensors, index));
      result.files_.push_back(std::move(file));
    }
  }
  // Entries stay where they are when the folder is moved: they are elements of vectors on the heap.
  for (const SafetensorsReader& file : result.files_) {
    for (const SafetensorsEntry& entry : file.tensors())
      result.tensors_[entry.name] = {&file, &entry};
  }
  return result;
}

}  // namespace lacuna
