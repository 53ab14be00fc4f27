// A file driver for the HDF5 library that keeps a file in memory, sparsely: space that is allocated
// and never written costs nothing.
//
// Structures are laid out on it because the library does not stand a failing disk: after a write
// error on its own drivers (1.10.8) it keeps the file open, tries again at exit and can crash
// there. Memory does not fail. Structures are parsed from it, too, so that the library sees the
// very bytes that were verified (core/io/hdf5_seal.h).
#pragma once

#include <hdf5.h>

#include <array>
#include <cstdint>
#include <map>

namespace lacuna::hdf5 {

class SparseMemory {
 public:
  static constexpr int64_t kPageBytes = 4096;

  void Read(int64_t offset, void* data, int64_t bytes) const;  // zeros where nothing was written
  void Write(int64_t offset, const void* data, int64_t bytes);
  // End of the file; of one that is written, as the library allocated it.
  int64_t size() const { return size_; }
  void set_size(int64_t size) { size_ = size; }

 private:
  std::map<int64_t, std::array<char, kPageBytes>> pages_;
  int64_t size_ = 0;
};

// Makes files opened with `access` live in `memory`, which must outlive them.
void UseMemoryDriver(hid_t access, SparseMemory* memory);

}  // namespace lacuna::hdf5
