#include "core/io/hdf5_memory_driver.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "core/error.h"

namespace lacuna::hdf5 {
namespace {

// The library's part of an open file comes first; it fills that in itself.
struct MemoryFile {
  H5FD_t base;
  SparseMemory* memory;
  haddr_t end;
};

MemoryFile& Of(H5FD_t* file) {
  return *reinterpret_cast<MemoryFile*>(file);
}
const MemoryFile& Of(const H5FD_t* file) {
  return *reinterpret_cast<const MemoryFile*>(file);
}

H5FD_t* Open(const char*, unsigned, hid_t access, haddr_t) {
  auto* memory = *static_cast<SparseMemory* const*>(H5Pget_driver_info(access));
  auto* file = new MemoryFile{};
  file->memory = memory;
  file->end = static_cast<haddr_t>(memory->size());
  return &file->base;
}

herr_t Close(H5FD_t* file) {
  Of(file).memory->set_size(static_cast<int64_t>(Of(file).end));
  delete &Of(file);
  return 0;
}

// Metadata side by side, so that it is written in few pieces.
herr_t Query(const H5FD_t*, unsigned long* flags) {
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA;
  return 0;
}

haddr_t GetEnd(const H5FD_t* file, H5FD_mem_t) {
  return Of(file).end;
}

// The library sets the end that it reads up to; the file's own end stays what it is.
haddr_t GetFileEnd(const H5FD_t* file, H5FD_mem_t) {
  return std::max(Of(file).end, static_cast<haddr_t>(Of(file).memory->size()));
}

herr_t SetEnd(H5FD_t* file, H5FD_mem_t, haddr_t end) {
  Of(file).end = end;
  return 0;
}

herr_t Read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t offset, size_t bytes, void* data) {
  Of(file).memory->Read(static_cast<int64_t>(offset), data, static_cast<int64_t>(bytes));
  return 0;
}

herr_t Write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t offset, size_t bytes, const void* data) {
  try {
    Of(file).memory->Write(static_cast<int64_t>(offset), data, static_cast<int64_t>(bytes));
    return 0;
  } catch (const std::exception&) {  // of memory; no exception may cross the C library
    return -1;
  }
}

hid_t Register() {
  H5FD_class_t driver{};
#if H5_VERSION_GE(1, 13, 0)
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(510);
#endif
  driver.name = "lacuna_memory";
  driver.maxaddr = static_cast<haddr_t>(INT64_MAX);
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(SparseMemory*);
  driver.open = Open;
  driver.close = Close;
  driver.query = Query;
  driver.get_eoa = GetEnd;
  driver.set_eoa = SetEnd;
  driver.get_eof = GetFileEnd;
  driver.read = Read;
  driver.write = Write;
  constexpr H5FD_mem_t kFreeLists[] = H5FD_FLMAP_DICHOTOMY;
  std::copy(std::begin(kFreeLists), std::end(kFreeLists), driver.fl_map);
  return H5FDregister(&driver);
}

}  // namespace

void SparseMemory::Read(int64_t offset, void* data, int64_t bytes) const {
  char* out = static_cast<char*>(data);
  while (bytes > 0) {
    const int64_t within = offset % kPageBytes, part = std::min(bytes, kPageBytes - within);
    const auto page = pages_.find(offset / kPageBytes);
    if (page == pages_.end()) {
      std::memset(out, 0, static_cast<size_t>(part));
    } else {
      std::memcpy(out, page->second.data() + within, static_cast<size_t>(part));
    }
    out += part;
    offset += part;
    bytes -= part;
  }
}

void SparseMemory::Write(int64_t offset, const void* data, int64_t bytes) {
  const char* in = static_cast<const char*>(data);
  while (bytes > 0) {
    const int64_t within = offset % kPageBytes, part = std::min(bytes, kPageBytes - within);
    std::memcpy(pages_[offset / kPageBytes].data() + within, in, static_cast<size_t>(part));
    in += part;
    offset += part;
    bytes -= part;
  }
}

void UseMemoryDriver(hid_t access, SparseMemory* memory) {
  static const hid_t driver = Register();
  LACUNA_CHECK(driver >= 0 && H5Pset_driver(access, driver, &memory) >= 0,
               "the HDF5 library refuses the memory driver");
}

}  // namespace lacuna::hdf5
