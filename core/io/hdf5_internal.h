// What the writer and the reader of HDF5 files share. Included by core/io/hdf5_*.cc only.
#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>
#include <utility>

#include "core/io/hdf5_file.h"

namespace lacuna::hdf5 {

// Debian's library is not thread-safe: one lock around every use, taken by the public functions.
// Taking it turns the library's own printing of errors off and forbids plugins.
std::unique_lock<std::recursive_mutex> Lock();

// Closes an id by its kind when it leaves scope.
class Id {
 public:
  Id() = default;
  explicit Id(hid_t id) : id_(id) {}
  Id(Id&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Id& operator=(Id&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Id() {
    if (id_ >= 0) H5Idec_ref(id_);
  }
  hid_t get() const { return id_; }
  bool ok() const { return id_ >= 0; }

 private:
  hid_t id_ = -1;
};

// The innermost entry of the library's error stack ("truncated file: eof = 512, ..."), which it
// clears.
std::string LastError();

// The library's type for ours; bf16 is a float type of 1 sign, 8 exponent and 7 mantissa bits,
// which h5py and h5dump understand.
Id MakeType(Hdf5Type type);
// Ours for a type found in a file; false where it is none of them (then `found` says what it is).
bool RecogniseType(hid_t type, Hdf5Type* result, std::string* found);

}  // namespace lacuna::hdf5
