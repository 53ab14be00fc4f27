#include <algorithm>

#include "core/error.h"
#include "core/io/hdf5_internal.h"
#include "core/io/hdf5_memory_driver.h"
#include "core/io/hdf5_seal.h"

namespace lacuna {

using hdf5::Id;

namespace {

constexpr size_t kMaxObjects = 10'000'000;

// State of the walk over a file's links; the first violation ends it.
struct Walk {
  hid_t file;
  const std::string& path;
  ExitCode code;
  int64_t file_bytes;
  std::map<std::string, Hdf5Dataset>& datasets;
  size_t objects = 0;
  absl::Status status = {};

  template <class... T>
  herr_t Refuse(const char* name, fmt::format_string<T...> format, T&&... args) {
    status = MakeError(
        code, fmt::format("{}:/{}: {}", path, name, fmt::format(format, std::forward<T>(args)...)));
    return -1;
  }
};

// Layouts and filters that need no code and no bytes from elsewhere. Sets `contiguous`.
herr_t CheckStorage(Walk& walk, const char* name, hid_t dataset, bool* contiguous,
                    bool* compressed) {
  const Id creation(H5Dget_create_plist(dataset));
  const H5D_layout_t layout = H5Pget_layout(creation.get());
  *contiguous = layout == H5D_CONTIGUOUS;
  if (layout != H5D_CONTIGUOUS && layout != H5D_COMPACT && layout != H5D_CHUNKED) {
    return walk.Refuse(name, "its storage is virtual; contiguous, compact or chunked is allowed");
  }
  if (H5Pget_external_count(creation.get()) != 0)
    return walk.Refuse(name, "its bytes are in another file, which is not allowed");
  *compressed = false;
  const int filters = layout == H5D_CHUNKED ? H5Pget_nfilters(creation.get()) : 0;
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0;
    size_t values = 0;
    const H5Z_filter_t filter = H5Pget_filter2(creation.get(), static_cast<unsigned>(i), &flags,
                                               &values, nullptr, 0, nullptr, nullptr);
    if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_FLETCHER32) {
      return walk.Refuse(name, "uses filter {}; deflate and fletcher32 are allowed",
                         static_cast<int>(filter));
    }
    *compressed |= filter == H5Z_FILTER_DEFLATE;
  }
  return 0;
}

herr_t AddDataset(Walk& walk, const char* name, hid_t dataset) {
  Hdf5Dataset info;
  info.path = name;
  const Id type(H5Dget_type(dataset)), space(H5Dget_space(dataset));
  std::string found;
  if (!hdf5::RecogniseType(type.get(), &info.type, &found)) {
    return walk.Refuse(
        name, "holds {} elements; little-endian integers and floats of 8 to 64 bits are allowed",
        found);
  }
  bool contiguous = false, compressed = false;
  if (CheckStorage(walk, name, dataset, &contiguous, &compressed) < 0) return -1;
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if (rank < 0 || rank > 6 || H5Sget_simple_extent_type(space.get()) == H5S_NULL) {
    return walk.Refuse(name, "has {} dimensions; 1 to 6 are allowed", rank);
  }
  std::vector<hsize_t> dims(static_cast<size_t>(rank));
  H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
  info.bytes = SizeOf(info.type);
  for (const hsize_t d : dims) {
    int64_t size = 0;
    if (__builtin_add_overflow(d, 0, &size) ||
        __builtin_mul_overflow(info.bytes, size, &info.bytes)) {
      return walk.Refuse(name, "its shape [{}] has more than 2^63 bytes", fmt::join(dims, ", "));
    }
    info.shape.push_back(size);
  }
  if (rank == 0) info.shape.push_back(1);
  // Deflate packs at most about 1032 to 1.
  if (info.bytes > (compressed ? walk.file_bytes * 1100 : walk.file_bytes)) {
    return walk.Refuse(name, "its shape [{}] needs {} bytes, the file has {}",
                       fmt::join(dims, ", "), info.bytes, walk.file_bytes);
  }
  if (contiguous && info.bytes > 0) {
    const haddr_t offset = H5Dget_offset(dataset);
    if (offset == HADDR_UNDEF || offset > static_cast<haddr_t>(walk.file_bytes - info.bytes)) {
      return walk.Refuse(name, "its bytes are not all in the file ({} bytes): truncated?",
                         walk.file_bytes);
    }
    info.offset = static_cast<int64_t>(offset);
  } else if (contiguous) {
    info.offset = 0;
  }
  walk.datasets.emplace(info.path, std::move(info));
  return 0;
}

herr_t Visit(hid_t, const char* name, const H5L_info_t* link, void* data) {
  Walk& walk = *static_cast<Walk*>(data);
  if (++walk.objects > kMaxObjects)
    return walk.Refuse(name, "the file holds more than {} objects", kMaxObjects);
  if (link->type != H5L_TYPE_HARD)
    return walk.Refuse(name, "is a soft or external link; only hard links are allowed");
  const Id object(H5Oopen(walk.file, name, H5P_DEFAULT));
  if (!object.ok()) return walk.Refuse(name, "cannot be opened: {}", hdf5::LastError());
  if (H5Iget_type(object.get()) == H5I_DATASET) return AddDataset(walk, name, object.get());
  return 0;
}

}  // namespace

absl::StatusOr<Hdf5Reader> Hdf5Reader::Open(const std::string& path, ExitCode code) {
  Hdf5Reader reader;
  reader.path_ = path;
  reader.code_ = code;
  LACUNA_ASSIGN_OR_RETURN(reader.file_, FileDescriptor::OpenRead(path, code));
  LACUNA_ASSIGN_OR_RETURN(reader.structure_, hdf5::ReadSealed(reader.file_, code));
  const auto lock = hdf5::Lock();
  const Id access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  hdf5::UseMemoryDriver(access.get(), reader.structure_.get());
  reader.file_id_ = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get());
  if (reader.file_id_ < 0)
    return MakeError(code,
                     fmt::format("{}: not a readable HDF5 file: {}", path, hdf5::LastError()));
  Walk walk{.file = reader.file_id_,
            .path = path,
            .code = code,
            .file_bytes = reader.structure_->size(),
            .datasets = reader.datasets_};
  if (H5Lvisit(reader.file_id_, H5_INDEX_NAME, H5_ITER_NATIVE, Visit, &walk) < 0) {
    if (!walk.status.ok()) return walk.status;
    return MakeError(code, fmt::format("{}: cannot list its objects: {}", path, hdf5::LastError()));
  }
  return reader;
}

Hdf5Reader::Hdf5Reader() = default;

Hdf5Reader::Hdf5Reader(Hdf5Reader&& other) noexcept {
  *this = std::move(other);
}

Hdf5Reader& Hdf5Reader::operator=(Hdf5Reader&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(code_, other.code_);
  std::swap(structure_, other.structure_);
  std::swap(file_id_, other.file_id_);
  std::swap(file_, other.file_);
  std::swap(datasets_, other.datasets_);
  return *this;
}

Hdf5Reader::~Hdf5Reader() {
  if (file_id_ < 0) return;
  const auto lock = hdf5::Lock();
  H5Fclose(file_id_);
}

absl::StatusOr<Hdf5Dataset> Hdf5Reader::Find(const std::string& dataset) const {
  const auto found = datasets_.find(dataset);
  if (found != datasets_.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [name, info] : datasets_) {
    names.push_back(name);
    if (names.size() == 8) break;
  }
  return MakeError(code_,
                   fmt::format("{}: no dataset /{}; the file holds {}{}", path_, dataset,
                               names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")),
                               datasets_.size() > names.size() ? ", ..." : ""));
}

absl::Status Hdf5Reader::Read(const Hdf5Dataset& dataset, int64_t begin, int64_t count,
                              void* data) const {
  LACUNA_CHECK(begin >= 0 && count >= 0 && begin + count <= dataset.numel(),
               "{}:/{}: elements [{}, {}) of {}", path_, dataset.path, begin, begin + count,
               dataset.numel());
  const int64_t size = SizeOf(dataset.type);
  if (dataset.offset >= 0) return file_.ReadAt(dataset.offset + begin * size, data, count * size);
  LACUNA_CHECK(begin == 0 && count == dataset.numel(),
               "{}:/{}: chunked, so it can only be read whole", path_, dataset.path);
  const auto lock = hdf5::Lock();
  const Id id(H5Dopen2(file_id_, dataset.path.c_str(), H5P_DEFAULT));
  if (!id.ok() || H5Dread(id.get(), hdf5::MakeType(dataset.type).get(), H5S_ALL, H5S_ALL,
                          H5P_DEFAULT, data) < 0) {
    return MakeError(
        code_, fmt::format("{}:/{}: cannot read: {}", path_, dataset.path, hdf5::LastError()));
  }
  return absl::OkStatus();
}

namespace {

struct OpenAttribute {
  Id attribute, type;
  H5T_class_t type_class = H5T_NO_CLASS;
};

absl::StatusOr<OpenAttribute> FindAttribute(hid_t file, const std::string& path, ExitCode code,
                                            const std::string& object, const std::string& name) {
  OpenAttribute result;
  result.attribute =
      Id(H5Aopen_by_name(file, object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT));
  if (!result.attribute.ok()) {
    hdf5::LastError();
    return MakeError(code, fmt::format("{}: attribute {} of {} is missing", path, name, object));
  }
  const Id space(H5Aget_space(result.attribute.get()));
  if (H5Sget_simple_extent_npoints(space.get()) != 1)
    return MakeError(code,
                     fmt::format("{}: attribute {} of {} is not one value", path, name, object));
  result.type = Id(H5Aget_type(result.attribute.get()));
  result.type_class = H5Tget_class(result.type.get());
  return result;
}

}  // namespace

absl::StatusOr<int64_t> Hdf5Reader::IntAttribute(const std::string& object,
                                                 const std::string& name) const {
  const auto lock = hdf5::Lock();
  LACUNA_ASSIGN_OR_RETURN(const OpenAttribute found,
                          FindAttribute(file_id_, path_, code_, object, name));
  int64_t value = 0;
  if (found.type_class != H5T_INTEGER ||
      H5Aread(found.attribute.get(), H5T_NATIVE_INT64, &value) < 0) {
    return MakeError(code_,
                     fmt::format("{}: attribute {} of {} is not an integer", path_, name, object));
  }
  return value;
}

absl::StatusOr<double> Hdf5Reader::DoubleAttribute(const std::string& object,
                                                   const std::string& name) const {
  const auto lock = hdf5::Lock();
  LACUNA_ASSIGN_OR_RETURN(const OpenAttribute found,
                          FindAttribute(file_id_, path_, code_, object, name));
  double value = 0;
  if (found.type_class != H5T_FLOAT ||
      H5Aread(found.attribute.get(), H5T_NATIVE_DOUBLE, &value) < 0) {
    return MakeError(code_, fmt::format("{}: attribute {} of {} is not a floating-point number",
                                        path_, name, object));
  }
  return value;
}

absl::StatusOr<std::string> Hdf5Reader::StringAttribute(const std::string& object,
                                                        const std::string& name) const {
  const auto lock = hdf5::Lock();
  LACUNA_ASSIGN_OR_RETURN(const OpenAttribute found,
                          FindAttribute(file_id_, path_, code_, object, name));
  const absl::Status error =
      MakeError(code_, fmt::format("{}: attribute {} of {} is not a string", path_, name, object));
  if (found.type_class != H5T_STRING) return error;
  std::string value;
  if (H5Tis_variable_str(found.type.get()) > 0) {
    char* text = nullptr;
    if (H5Aread(found.attribute.get(), found.type.get(), &text) < 0) return error;
    if (text != nullptr) value = text;
    H5free_memory(text);
  } else {
    value.resize(H5Tget_size(found.type.get()));
    if (H5Aread(found.attribute.get(), found.type.get(), value.data()) < 0) return error;
    value.resize(std::min(value.size(), value.find('\0')));
  }
  return value;
}

}  // namespace lacuna
