#include "data/mapped_file.h"

#include <sys/mman.h>

#include <cerrno>

namespace lacuna {

absl::StatusOr<MappedFile> MappedFile::Map(const FileDescriptor& file) {
  MappedFile mapped;
  LACUNA_ASSIGN_OR_RETURN(const int64_t bytes, file.Size());
  if (bytes == 0) return mapped;
  void* address = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ, MAP_SHARED, file.get(), 0);
  if (address == MAP_FAILED)
    return FileError(ExitCode::kData, file.path(), "map into memory", errno);
  mapped.data_ = static_cast<const char*>(address);
  mapped.bytes_ = bytes;
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), static_cast<size_t>(bytes_));
}

}  // namespace lacuna
