#include "core/io/hdf5_seal.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "absl/strings/cord.h"
#include "core/io/block_hash.h"

namespace lacuna {
namespace {

constexpr char kUnsealedKey[] = "lacuna.unsealed";

}  // namespace

bool IsUnsealed(const absl::Status& status) {
  return status.GetPayload(kUnsealedKey).has_value();
}

namespace hdf5 {
namespace {

constexpr char kMagic[] = "\x89LACUNA\n", kHdf5Magic[] = "\x89HDF\r\n\x1a\n";
constexpr size_t kMagicBytes = 8;
constexpr int64_t kSealVersion = 1;
// For the structure in memory; that of a token shard takes some KiB.
constexpr int64_t kMaxMemory = int64_t{1} << 30;

static_assert(std::endian::native == std::endian::little, "numbers are stored as they are");
struct Seal {
  char magic[kMagicBytes];
  int64_t version;
  int64_t file_bytes;
  int64_t list_begin;
  uint64_t list_hash;
  char zeros[464];
  uint64_t hash;
};
static_assert(sizeof(Seal) == kSealBytes && offsetof(Seal, hash) == 504);

struct Entry {
  int64_t begin;
  int64_t bytes;
  uint64_t hash;
};
constexpr int64_t kEntryBytes = sizeof(Entry);
static_assert(kEntryBytes == 24);

uint64_t HashOf(const Seal& seal) {
  return XXH3_64bits(&seal, offsetof(Seal, hash));
}

uint64_t HashOf(const std::vector<Entry>& list) {
  return XXH3_64bits(list.data(), list.size() * sizeof(Entry));
}

// Reads a sealed file from the front: each part is proven by the one before.
class SealReader {
 public:
  SealReader(const FileDescriptor& file, ExitCode code) : file_(file), code_(code) {}

  absl::StatusOr<std::unique_ptr<SparseMemory>> Read() {
    LACUNA_RETURN_IF_ERROR(ReadSeal());
    LACUNA_RETURN_IF_ERROR(ReadList());
    auto structure = std::make_unique<SparseMemory>();
    std::vector<char> bytes;
    for (const Entry& entry : list_) {
      bytes.resize(static_cast<size_t>(entry.bytes));
      LACUNA_RETURN_IF_ERROR(file_.ReadAt(entry.begin, bytes.data(), entry.bytes));
      if (XXH3_64bits(bytes.data(), bytes.size()) != entry.hash) {
        return Refuse("checksum mismatch in the file's structure, bytes [{}, {})", entry.begin,
                      entry.begin + entry.bytes);
      }
      structure->Write(entry.begin, bytes.data(), entry.bytes);
    }
    structure->set_size(seal_.list_begin);
    return structure;
  }

 private:
  template <class... T>
  absl::Status Refuse(fmt::format_string<T...> format, T&&... args) const {
    return MakeError(
        code_, fmt::format("{}: {}", file_.path(), fmt::format(format, std::forward<T>(args)...)));
  }

  absl::Status ReadSeal() {
    LACUNA_ASSIGN_OR_RETURN(const int64_t size, file_.Size());
    LACUNA_RETURN_IF_ERROR(file_.ReadAt(0, &seal_, std::min(size, kSealBytes)));
    if (std::memcmp(seal_.magic, kHdf5Magic, kMagicBytes) == 0) {
      absl::Status status = Refuse("HDF5 without a seal, so its structure cannot be verified");
      status.SetPayload(kUnsealedKey, absl::Cord("1"));
      return status;
    }
    if (size < kSealBytes)
      return Refuse("has {} bytes, a sealed HDF5 file has more than {}", size, kSealBytes);
    if (std::memcmp(seal_.magic, kMagic, kMagicBytes) != 0)
      return Refuse("does not begin with a seal: not an HDF5 file of this program, or damaged");
    if (HashOf(seal_) != seal_.hash)
      return Refuse("checksum mismatch in the file's seal, bytes [0, {})", kSealBytes);
    if (seal_.version != kSealVersion) {
      return Refuse("its seal has version {}, this program reads version {}", seal_.version,
                    kSealVersion);
    }
    if (size != seal_.file_bytes) {
      return Refuse("{}: has {} bytes, its seal says {}",
                    size < seal_.file_bytes ? "truncated" : "too long", size, seal_.file_bytes);
    }
    return absl::OkStatus();
  }

  // What is refused here behind a good checksum was made to deceive.
  absl::Status ReadList() {
    const int64_t begin = seal_.list_begin, end = seal_.file_bytes;
    if (begin < kSealBytes || begin > end || (end - begin) % kEntryBytes != 0)
      return Refuse("its seal places the list of extents at byte {} of {}", begin, end);
    // An extent takes at least a page.
    const int64_t count = (end - begin) / kEntryBytes;
    int64_t memory = count * SparseMemory::kPageBytes;
    if (memory > kMaxMemory) return RefuseMemory(memory);
    list_.resize(static_cast<size_t>(count));
    LACUNA_RETURN_IF_ERROR(file_.ReadAt(begin, list_.data(), end - begin));
    if (HashOf(list_) != seal_.list_hash) {
      return Refuse("checksum mismatch in the list of the file's structure, bytes [{}, {})", begin,
                    end);
    }
    int64_t at = kSealBytes;
    for (const Entry& entry : list_) {
      if (entry.begin < at || entry.begin > begin || entry.bytes < 0 ||
          entry.bytes > begin - entry.begin) {
        return Refuse("its seal lists {} bytes at byte {}, must lie in [{}, {})", entry.bytes,
                      entry.begin, at, begin);
      }
      at = entry.begin + entry.bytes;
      memory += entry.bytes;
    }
    return memory > kMaxMemory ? RefuseMemory(memory) : absl::OkStatus();
  }

  absl::Status RefuseMemory(int64_t bytes) const {
    return Refuse("its structure takes {} of memory, allowed are {}", FormatBytes(bytes),
                  FormatBytes(kMaxMemory));
  }

  const FileDescriptor& file_;
  ExitCode code_;
  Seal seal_{};
  std::vector<Entry> list_;
};

}  // namespace

std::vector<Extent> ExtentsBetween(const std::vector<Hdf5Dataset>& datasets, int64_t begin,
                                   int64_t end) {
  std::vector<Extent> extents;
  const auto add_until = [&](int64_t next) {
    if (next > begin) extents.push_back({begin, next - begin});
  };
  for (const Hdf5Dataset& dataset : datasets) {
    if (dataset.bytes == 0) continue;
    add_until(dataset.offset);
    begin = dataset.offset + dataset.bytes;
  }
  add_until(end);
  return extents;
}

void AddSeal(const std::vector<Hdf5Dataset>& datasets, SparseMemory* file) {
  const int64_t list_begin = file->size();
  std::vector<Entry> list;
  std::vector<char> bytes;
  for (const Extent& extent : ExtentsBetween(datasets, kSealBytes, list_begin)) {
    bytes.resize(static_cast<size_t>(extent.bytes));
    file->Read(extent.begin, bytes.data(), extent.bytes);
    list.push_back({extent.begin, extent.bytes, XXH3_64bits(bytes.data(), bytes.size())});
  }
  const int64_t list_bytes = static_cast<int64_t>(list.size()) * kEntryBytes;
  Seal seal{.magic = {},
            .version = kSealVersion,
            .file_bytes = list_begin + list_bytes,
            .list_begin = list_begin,
            .list_hash = HashOf(list),
            .zeros = {},
            .hash = 0};
  std::memcpy(seal.magic, kMagic, kMagicBytes);
  seal.hash = HashOf(seal);
  file->Write(0, &seal, kSealBytes);
  file->Write(list_begin, list.data(), list_bytes);
  file->set_size(seal.file_bytes);
}

absl::StatusOr<std::unique_ptr<SparseMemory>> ReadSealed(const FileDescriptor& file,
                                                         ExitCode code) {
  return SealReader(file, code).Read();
}

}  // namespace hdf5
}  // namespace lacuna
