// Checksums of files: XXH3-64 (seed 0) of every block of 4 MiB; the last block may be shorter.
// Blocks are counted from the first byte, so a block moved to another place does not match there.
//
// The hash of the whole is XXH3-64 of the blocks' hashes (little-endian, in order) followed by the
// number of bytes (8, little-endian): one number vouches for the list, the list tells which block
// is damaged.
#pragma once

#include <xxhash.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/io/file.h"

namespace lacuna {

inline constexpr int64_t kHashBlockBytes = int64_t{4} << 20;

struct BlockHashes {
  int64_t bytes = 0;
  std::vector<uint64_t> blocks;

  uint64_t Root() const;
  bool operator==(const BlockHashes&) const = default;
};

// Streaming: any split of the same bytes over Update gives the same hashes.
class BlockHasher {
 public:
  BlockHasher();
  void Update(const void* data, int64_t bytes);
  BlockHashes Finish();  // of all bytes so far; the hasher starts anew

 private:
  struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, FreeState> state_;
  int64_t in_block_ = 0;
  BlockHashes hashes_;
};

// Of bytes [begin, begin + bytes) of a file, read in blocks.
absl::StatusOr<BlockHashes> HashFile(const FileDescriptor& file, int64_t begin, int64_t bytes);
BlockHashes HashBytes(const void* data, int64_t bytes);

// 16 lower-case hexadecimal digits, and back; nothing else is accepted.
std::string ToHex(uint64_t hash);
bool FromHex(std::string_view text, uint64_t* hash);

}  // namespace lacuna
