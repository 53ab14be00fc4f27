#include <algorithm>

#include "core/error.h"
#include "core/io/hdf5_internal.h"
#include "core/io/hdf5_memory_driver.h"
#include "core/io/hdf5_seal.h"

namespace lacuna {

using hdf5::Id;

absl::StatusOr<Hdf5Writer> Hdf5Writer::Create(const std::string& path, ExitCode code) {
  const auto lock = hdf5::Lock();
  Hdf5Writer writer;
  writer.path_ = path;
  writer.code_ = code;
  writer.structure_ = std::make_unique<hdf5::SparseMemory>();
  const Id access(H5Pcreate(H5P_FILE_ACCESS)), creation(H5Pcreate(H5P_FILE_CREATE));
  // Every object must be closed with the file, or the library would go on writing it later.
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  H5Pset_alignment(access.get(), 1, 64);
  H5Pset_userblock(creation.get(), hdf5::kSealBytes);
  hdf5::UseMemoryDriver(access.get(), writer.structure_.get());
  writer.file_id_ = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get());
  if (writer.file_id_ < 0)
    return MakeError(
        code, fmt::format("{}: cannot create the HDF5 structure: {}", path, hdf5::LastError()));
  return writer;
}

Hdf5Writer::Hdf5Writer() = default;

Hdf5Writer::Hdf5Writer(Hdf5Writer&& other) noexcept {
  *this = std::move(other);
}

Hdf5Writer& Hdf5Writer::operator=(Hdf5Writer&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(code_, other.code_);
  std::swap(file_id_, other.file_id_);
  std::swap(structure_, other.structure_);
  std::swap(file_, other.file_);
  std::swap(datasets_, other.datasets_);
  std::swap(index_, other.index_);
  std::swap(file_bytes_, other.file_bytes_);
  return *this;
}

Hdf5Writer::~Hdf5Writer() {
  if (file_id_ < 0) return;
  const auto lock = hdf5::Lock();
  H5Fclose(file_id_);
}

void Hdf5Writer::AddDataset(const std::string& path, Hdf5Type type,
                            const std::vector<int64_t>& shape) {
  const auto lock = hdf5::Lock();
  LACUNA_CHECK(file_id_ >= 0, "{}: dataset {} added after Seal", path_, path);
  LACUNA_CHECK(!shape.empty() && shape.size() <= 6, "{}: dataset {} has {} dimensions", path_, path,
               shape.size());
  std::vector<hsize_t> dims;
  int64_t bytes = SizeOf(type);
  for (const int64_t d : shape) {
    LACUNA_CHECK(d >= 0 && !__builtin_mul_overflow(bytes, d, &bytes),
                 "{}: dataset {} has an impossible size", path_, path);
    dims.push_back(static_cast<hsize_t>(d));
  }
  const Id space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
  const Id creation(H5Pcreate(H5P_DATASET_CREATE)), links(H5Pcreate(H5P_LINK_CREATE));
  H5Pset_layout(creation.get(), H5D_CONTIGUOUS);
  H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER);
  // Equal contents give equal files.
  H5Pset_obj_track_times(creation.get(), 0);
  H5Pset_create_intermediate_group(links.get(), 1);
  const Id dataset(H5Dcreate2(file_id_, path.c_str(), hdf5::MakeType(type).get(), space.get(),
                              links.get(), creation.get(), H5P_DEFAULT));
  LACUNA_CHECK(dataset.ok(), "{}: cannot add dataset {}: {}", path_, path, hdf5::LastError());
  datasets_.push_back({path, type, shape, bytes, -1});
}

void Hdf5Writer::SetAttribute(const std::string& object, const std::string& name,
                              const Hdf5Attribute& value) {
  const auto lock = hdf5::Lock();
  LACUNA_CHECK(file_id_ >= 0, "{}: attribute {} set after Seal", path_, name);
  Id type, space(H5Screate(H5S_SCALAR));
  const void* data = nullptr;
  std::string text;
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    type = Id(H5Tcopy(H5T_STD_I64LE));
    data = integer;
  } else if (const auto* real = std::get_if<double>(&value)) {
    type = Id(H5Tcopy(H5T_IEEE_F64LE));
    data = real;
  } else {
    text = std::get<std::string>(value);
    type = Id(H5Tcopy(H5T_C_S1));
    H5Tset_cset(type.get(), H5T_CSET_UTF8);
    // The library knows no strings of length 0.
    H5Tset_size(type.get(), std::max<size_t>(text.size(), 1));
    H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
    data = text.c_str();
  }
  // The older format keeps an attribute in the object's header, which ends at 64 KiB; callers keep
  // long texts in a dataset.
  const Id attribute(H5Acreate_by_name(file_id_, object.c_str(), name.c_str(), type.get(),
                                       space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  LACUNA_CHECK(attribute.ok() && H5Awrite(attribute.get(), type.get(), data) >= 0,
               "{}: cannot set attribute {} of {}: {}", path_, name, object, hdf5::LastError());
}

absl::Status Hdf5Writer::Seal() {
  {
    const auto lock = hdf5::Lock();
    LACUNA_CHECK(file_id_ >= 0, "{}: sealed twice", path_);
    for (Hdf5Dataset& dataset : datasets_) {
      const Id id(H5Dopen2(file_id_, dataset.path.c_str(), H5P_DEFAULT));
      // A dataset without elements has no address.
      const haddr_t offset = H5Dget_offset(id.get());
      LACUNA_CHECK(offset != HADDR_UNDEF || dataset.bytes == 0, "{}: dataset {} has no space",
                   path_, dataset.path);
      dataset.offset = dataset.bytes == 0 ? 0 : static_cast<int64_t>(offset);
    }
    if (H5Fclose(std::exchange(file_id_, -1)) < 0) {
      return MakeError(
          code_, fmt::format("{}: cannot finish the HDF5 structure: {}", path_, hdf5::LastError()));
    }
  }
  std::sort(datasets_.begin(), datasets_.end(),
            [](const Hdf5Dataset& a, const Hdf5Dataset& b) { return a.offset < b.offset; });
  for (size_t i = 0; i < datasets_.size(); ++i) index_[datasets_[i].path] = i;
  hdf5::AddSeal(datasets_, structure_.get());
  file_bytes_ = structure_->size();
  LACUNA_ASSIGN_OR_RETURN(file_, FileDescriptor::Create(path_, code_));
  return WriteStructure();
}

absl::Status Hdf5Writer::WriteStructure() {
  LACUNA_RETURN_IF_ERROR(file_.Truncate(file_bytes_));
  std::vector<char> buffer;
  for (const hdf5::Extent& extent : hdf5::ExtentsBetween(datasets_, 0, file_bytes_)) {
    buffer.resize(static_cast<size_t>(extent.bytes));
    structure_->Read(extent.begin, buffer.data(), extent.bytes);
    LACUNA_RETURN_IF_ERROR(file_.WriteAt(extent.begin, buffer.data(), extent.bytes));
  }
  return absl::OkStatus();
}

void Hdf5Writer::ReadStructure(int64_t offset, void* data, int64_t bytes) const {
  structure_->Read(offset, data, bytes);
}

absl::Status Hdf5Writer::Write(const std::string& path, int64_t begin, const void* data,
                               int64_t bytes) {
  const auto found = index_.find(path);
  LACUNA_CHECK(found != index_.end(), "{}: no dataset {}, or not sealed", path_, path);
  const Hdf5Dataset& dataset = datasets_[found->second];
  LACUNA_CHECK(begin >= 0 && bytes >= 0 && begin + bytes <= dataset.bytes,
               "{}: bytes [{}, {}) of dataset {}, which has {}", path_, begin, begin + bytes, path,
               dataset.bytes);
  return file_.WriteAt(dataset.offset + begin, data, bytes);
}

absl::Status Hdf5Writer::Close() {
  LACUNA_RETURN_IF_ERROR(file_.Sync());
  return file_.Close();
}

}  // namespace lacuna
