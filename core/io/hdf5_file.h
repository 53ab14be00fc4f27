// HDF5 files as Lacuna uses them: groups, contiguous little-endian datasets of plain numbers, and
// scalar attributes.
//
// Writing separates structure from bytes: datasets and attributes are declared first and laid out
// by the HDF5 library in memory (their space is allocated early, nothing is filled); Seal puts that
// structure and its checksums (core/io/hdf5_seal.h) on disk, and from then on bytes go to fixed
// offsets by pwrite. So the library never meets a full disk, its lock is not held while bytes are
// written, and a file that was not closed properly is only ever a temporary one.
//
// Reading verifies every byte of the structure before the library sees it; the library parses the
// verified bytes in memory and never opens the file. Only sealed files are read. The seal does not
// cover the datasets' bytes: whoever stores them keeps their checksums.
//
// It accepts what an untrusted file may hold and no more: hard links only; contiguous or
// compact data, or chunks with no filter or deflate and Fletcher32; no external storage, no virtual
// datasets, no filter plugins; 1 to 6 dimensions (a scalar counts as [1]) whose product neither
// overflows nor exceeds the file. The library's error stack becomes one line.
//
//   LACUNA_ASSIGN_OR_RETURN(Hdf5Writer writer, Hdf5Writer::Create("tok_000.h5", ExitCode::kData));
//   writer.AddDataset("tokens", Hdf5Type::kU16, {num_tokens});
//   writer.SetAttribute("/", "format_version", int64_t{1});
//   LACUNA_RETURN_IF_ERROR(writer.Seal());
//   LACUNA_RETURN_IF_ERROR(writer.Write("tokens", 0, tokens.data(), 2 * num_tokens));   // any
//     part, any order
//   LACUNA_RETURN_IF_ERROR(writer.Close());                                             // fsync
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "core/dtype.h"
#include "core/io/file.h"

namespace lacuna {

namespace hdf5 {
class SparseMemory;
}  // namespace hdf5

enum class Hdf5Type : uint8_t { kU8, kI8, kU16, kU32, kU64, kI32, kI64, kBF16, kF32, kF64 };

int64_t SizeOf(Hdf5Type type);
const char* NameOf(Hdf5Type type);
Hdf5Type ToHdf5Type(DType dtype);

using Hdf5Attribute = std::variant<int64_t, double, std::string>;

struct Hdf5Dataset {
  std::string path;  // without a leading '/', e.g. "model/embedding.weight"
  Hdf5Type type = Hdf5Type::kU8;
  std::vector<int64_t> shape;
  int64_t bytes = 0;
  // of its bytes in the file; -1 where they are chunked or compact (then only Read gets at them)
  int64_t offset = -1;

  int64_t numel() const { return bytes / SizeOf(type); }
};

class Hdf5Writer {
 public:
  // Nothing is on disk before Seal.
  static absl::StatusOr<Hdf5Writer> Create(const std::string& path, ExitCode code);
  Hdf5Writer(Hdf5Writer&&) noexcept;
  Hdf5Writer& operator=(Hdf5Writer&&) noexcept;
  ~Hdf5Writer();  // a file that was not closed stays as it is

  // Before Seal. Groups named in `path` are made. A name used twice is misuse (lacuna::Error).
  void AddDataset(const std::string& path, Hdf5Type type, const std::vector<int64_t>& shape);
  // Of the dataset or group `object`; "/" is the file.
  void SetAttribute(const std::string& object, const std::string& name, const Hdf5Attribute& value);
  // Creates the file with its structure, the seal over it and its final size.
  absl::Status Seal();

  // After Seal: all datasets in the order of their offsets. What lies between them is structure, or
  // the seal.
  const std::vector<Hdf5Dataset>& datasets() const { return datasets_; }
  int64_t file_bytes() const { return file_bytes_; }  // with the seal
  // Structure bytes as they were meant, for hashing what is not data.
  void ReadStructure(int64_t offset, void* data, int64_t bytes) const;
  // Bytes [begin, begin + bytes) of a dataset.
  absl::Status Write(const std::string& path, int64_t begin, const void* data, int64_t bytes);
  // fsync and close; the file is complete and durable if every byte was written.
  absl::Status Close();

 private:
  Hdf5Writer();
  absl::Status WriteStructure();

  std::string path_;
  ExitCode code_ = ExitCode::kFailure;
  int64_t file_id_ = -1;  // of the library, while the structure is declared
  std::unique_ptr<hdf5::SparseMemory> structure_;
  FileDescriptor file_{-1, "", ExitCode::kFailure};
  std::vector<Hdf5Dataset> datasets_;
  std::map<std::string, size_t> index_;
  int64_t file_bytes_ = 0;
};

class Hdf5Reader {
 public:
  // Verifies the seal, then walks the whole file and checks every object against the rules above.
  static absl::StatusOr<Hdf5Reader> Open(const std::string& path, ExitCode code);
  Hdf5Reader(Hdf5Reader&&) noexcept;
  Hdf5Reader& operator=(Hdf5Reader&&) noexcept;
  ~Hdf5Reader();

  const std::string& path() const { return path_; }
  const std::map<std::string, Hdf5Dataset>& datasets() const { return datasets_; }
  // An error naming the file and what it does hold where there is no such dataset.
  absl::StatusOr<Hdf5Dataset> Find(const std::string& dataset) const;
  // Elements [begin, begin + count) in row-major order into `data`, in the dataset's own type.
  // Datasets without an offset only whole.
  absl::Status Read(const Hdf5Dataset& dataset, int64_t begin, int64_t count, void* data) const;
  // An error where the attribute is missing or of another type. Strings of fixed and variable
  // length.
  absl::StatusOr<int64_t> IntAttribute(const std::string& object, const std::string& name) const;
  absl::StatusOr<double> DoubleAttribute(const std::string& object, const std::string& name) const;
  absl::StatusOr<std::string> StringAttribute(const std::string& object,
                                              const std::string& name) const;
  const FileDescriptor& file() const { return file_; }

 private:
  Hdf5Reader();

  std::string path_;
  ExitCode code_ = ExitCode::kFailure;
  std::unique_ptr<hdf5::SparseMemory> structure_;
  int64_t file_id_ = -1;                             // of the library, reads structure_
  FileDescriptor file_{-1, "", ExitCode::kFailure};  // for the datasets' bytes
  std::map<std::string, Hdf5Dataset> datasets_;
};

// The error of Hdf5Reader::Open for a plain HDF5 file, which has no seal.
bool IsUnsealed(const absl::Status& status);

}  // namespace lacuna
