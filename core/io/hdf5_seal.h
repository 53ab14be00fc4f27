// The seal of an HDF5 file: what proves the file's structure (all that is not a dataset's bytes:
// superblock, headers, B-trees, gaps) before anything parses it. The HDF5 library does not stand
// damaged structure: one flipped bit can crash it (1.10.8).
//
//   bytes [0, 512)     the seal, in the user block that HDF5 leaves to applications
//   bytes [512, list)  the HDF5 file itself, with addresses counted from byte 512
//   bytes [list, end)  one entry of 24 bytes for each extent of structure, in the order of the file
//
//   seal   0  "\x89LACUNA\n"
//          8  version of the seal, 1
//         16  bytes of the whole file
//         24  first byte of the list
//         32  XXH3-64 of the list
//         40  zeros
//        504  XXH3-64 of bytes [0, 504)
//   entry  0  first byte of the extent
//          8  its bytes
//         16  XXH3-64 of them
//
// Numbers have 8 bytes, little-endian. The seal stands in front so that a truncated file still
// tells its size. HDF5 tools skip the user block and what lies behind the HDF5 file. Checksums tell
// damage, not malice: the rules of core/io/hdf5_file.h are checked behind them. Included by
// core/io/hdf5_*.cc and tests only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/io/file.h"
#include "core/io/hdf5_file.h"
#include "core/io/hdf5_memory_driver.h"

namespace lacuna::hdf5 {

inline constexpr int64_t kSealBytes = 512;  // the smallest user block

// Bytes [begin, begin + bytes) of a file.
struct Extent {
  int64_t begin = 0;
  int64_t bytes = 0;
};

// What `datasets`, in the order of their offsets, leave of bytes [begin, end).
std::vector<Extent> ExtentsBetween(const std::vector<Hdf5Dataset>& datasets, int64_t begin,
                                   int64_t end);

// `file` holds an HDF5 file with a user block of kSealBytes: fills that block and appends the list.
// What lies outside `datasets` (in the order of their offsets) is sealed as it is in `file`.
void AddSeal(const std::vector<Hdf5Dataset>& datasets, SparseMemory* file);

// The structure of a sealed file, every byte of it verified; zeros where the datasets lie. Its size
// is where the HDF5 file ends. Errors are one line with the path: no seal (IsUnsealed where it is a
// plain HDF5 file), a file of another size than its seal says, the bytes of a checksum that does
// not match.
absl::StatusOr<std::unique_ptr<SparseMemory>> ReadSealed(const FileDescriptor& file, ExitCode code);

}  // namespace lacuna::hdf5
