#include "core/io/block_hash.h"

#include <algorithm>
#include <bit>

#include "core/error.h"

namespace lacuna {

static_assert(std::endian::native == std::endian::little,
              "hashes are defined over little-endian numbers");

uint64_t BlockHashes::Root() const {
  std::vector<uint64_t> list = blocks;
  list.push_back(static_cast<uint64_t>(bytes));
  return XXH3_64bits(list.data(), list.size() * sizeof(uint64_t));
}

BlockHasher::BlockHasher() : state_(XXH3_createState()) {
  LACUNA_CHECK(state_ != nullptr, "out of memory");
  XXH3_64bits_reset(state_.get());
}

void BlockHasher::Update(const void* data, int64_t bytes) {
  const char* in = static_cast<const char*>(data);
  hashes_.bytes += bytes;
  while (bytes > 0) {
    const int64_t part = std::min(bytes, kHashBlockBytes - in_block_);
    XXH3_64bits_update(state_.get(), in, static_cast<size_t>(part));
    in += part;
    bytes -= part;
    in_block_ += part;
    if (in_block_ == kHashBlockBytes) {
      hashes_.blocks.push_back(XXH3_64bits_digest(state_.get()));
      XXH3_64bits_reset(state_.get());
      in_block_ = 0;
    }
  }
}

BlockHashes BlockHasher::Finish() {
  if (in_block_ > 0) hashes_.blocks.push_back(XXH3_64bits_digest(state_.get()));
  XXH3_64bits_reset(state_.get());
  in_block_ = 0;
  return std::exchange(hashes_, {});
}

absl::StatusOr<BlockHashes> HashFile(const FileDescriptor& file, int64_t begin, int64_t bytes) {
  std::vector<char> block(static_cast<size_t>(std::min(bytes, kHashBlockBytes)));
  BlockHasher hasher;
  for (int64_t done = 0; done < bytes;) {
    const int64_t part = std::min(bytes - done, kHashBlockBytes);
    LACUNA_RETURN_IF_ERROR(file.ReadAt(begin + done, block.data(), part));
    hasher.Update(block.data(), part);
    done += part;
  }
  return hasher.Finish();
}

BlockHashes HashBytes(const void* data, int64_t bytes) {
  BlockHasher hasher;
  hasher.Update(data, bytes);
  return hasher.Finish();
}

std::string ToHex(uint64_t hash) {
  return fmt::format("{:016x}", hash);
}

bool FromHex(std::string_view text, uint64_t* hash) {
  if (text.size() != 16) return false;
  *hash = 0;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return false;
    *hash = *hash << 4 | static_cast<uint64_t>(digit);
  }
  return true;
}

}  // namespace lacuna
