#include "distributed/checkpoint_reader.h"

#include <algorithm>
#include <sstream>

#include "core/io/block_hash.h"
#include "core/io/file.h"
#include "distributed/checkpoint_names.h"
#include "distributed/state_hash.h"

namespace lacuna {
namespace {

constexpr ExitCode kCode = ExitCode::kCheckpoint;
constexpr int64_t kMaxManifestBytes = int64_t{1} << 30;

// Tensors with bytes in block `block` of a file, for messages: "model/a", or "model/a to model/f".
std::string TensorsInBlock(const Manifest& manifest, const CheckpointFile& file, int64_t block) {
  const int64_t begin = block * kHashBlockBytes, end = begin + kHashBlockBytes;
  const CheckpointSlice *first = nullptr, *last = nullptr;
  for (const CheckpointSlice& slice : file.slices) {
    const int64_t bytes =
        slice.count * SizeOf(manifest.tensors[static_cast<size_t>(slice.tensor)].dtype);
    if (bytes == 0 || slice.at >= end || slice.at + bytes <= begin) continue;
    if (first == nullptr || slice.at < first->at) first = &slice;
    if (last == nullptr || slice.at > last->at) last = &slice;
  }
  if (first == nullptr) return "the file's structure";
  const std::string& name = manifest.tensors[static_cast<size_t>(first->tensor)].name;
  return first == last ? name
                       : fmt::format("{} to {}", name,
                                     manifest.tensors[static_cast<size_t>(last->tensor)].name);
}

// The list beside the file, proven by the manifest's hash.
absl::StatusOr<BlockHashes> ReadBlockHashes(const std::string& path, const CheckpointFile& file) {
  const int64_t count = (file.bytes + kHashBlockBytes - 1) / kHashBlockBytes;
  LACUNA_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 17 * count, kCode));
  BlockHashes hashes{.bytes = file.bytes,
                     .blocks = std::vector<uint64_t>(static_cast<size_t>(count))};
  bool good = static_cast<int64_t>(text.size()) == 17 * count;
  for (size_t i = 0; good && i < hashes.blocks.size(); ++i) {
    good = FromHex(std::string_view(text).substr(17 * i, 16), &hashes.blocks[i]) &&
           text[17 * i + 16] == '\n';
  }
  if (!good || hashes.Root() != file.hash)
    return CheckpointError("{}: does not match the manifest", path);
  return hashes;
}

}  // namespace

absl::StatusOr<std::vector<CheckpointInfo>> ListCheckpoints(const std::string& directory) {
  LACUNA_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory, kCode));
  std::vector<CheckpointInfo> all;
  for (const std::string& name : names) {
    const std::optional<int64_t> step = StepOfName(name);
    if (!step) continue;
    CheckpointInfo info{.step = *step, .path = directory + "/" + name, .status = {}, .created = {}};
    absl::StatusOr<CheckpointReader> reader = CheckpointReader::Open(info.path);
    info.status = reader.status();
    if (reader.ok()) {
      info.serial = reader->manifest().serial;
      info.bytes = reader->manifest().TotalBytes();
      info.created = reader->manifest().created;
    }
    all.push_back(std::move(info));
  }
  std::sort(all.begin(), all.end(), [](const CheckpointInfo& a, const CheckpointInfo& b) {
    if (a.status.ok() != b.status.ok()) return b.status.ok();
    return a.serial != b.serial ? a.serial > b.serial : a.step > b.step;
  });
  return all;
}

absl::StatusOr<CheckpointReader> CheckpointReader::Open(const std::string& path) {
  const std::string name = path + "/" + kManifestName;
  LACUNA_ASSIGN_OR_RETURN(const std::string text, ReadFile(name, kMaxManifestBytes, kCode));
  LACUNA_ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(name, text));
  // A copy under another step's name would be loaded as what it is not.
  const std::optional<int64_t> step = StepOfName(path.substr(path.rfind('/') + 1));
  if (step && *step != manifest.step)
    return CheckpointError("{}: is of step {}, its directory of step {}", name, manifest.step,
                           *step);
  return CheckpointReader(path, std::move(manifest));
}

std::vector<std::string> CheckpointReader::Verify(int part, int parts) const {
  std::vector<std::string> problems;
  for (size_t f = static_cast<size_t>(part); f < manifest_.files.size();
       f += static_cast<size_t>(parts)) {
    VerifyFile(manifest_.files[f], &problems);
  }
  return problems;
}

void CheckpointReader::VerifyFile(const CheckpointFile& file,
                                  std::vector<std::string>* problems) const {
  const std::string path = path_ + "/" + file.name;
  const auto problem = [&](const absl::Status& status) { problems->push_back(Message(status)); };
  const absl::StatusOr<FileDescriptor> opened = FileDescriptor::OpenRead(path, kCode);
  if (!opened.ok()) return problem(opened.status());
  const absl::StatusOr<int64_t> size = opened->Size();
  if (!size.ok()) return problem(size.status());
  if (*size != file.bytes) {
    return problem(CheckpointError("{}: {}: the manifest says {} bytes, the file has {}", path,
                                   *size < file.bytes ? "truncated" : "too long", file.bytes,
                                   *size));
  }
  const absl::StatusOr<BlockHashes> expected =
      ReadBlockHashes(path_ + "/" + HashFileOf(file.name), file);
  if (!expected.ok()) problem(expected.status());
  const absl::StatusOr<BlockHashes> found = HashFile(*opened, 0, file.bytes);
  if (!found.ok()) return problem(found.status());
  if (found->Root() == file.hash) return;
  if (!expected.ok()) return problem(CheckpointError("{}: checksum mismatch", path));
  for (size_t b = 0; b < found->blocks.size(); ++b) {
    if (found->blocks[b] == expected->blocks[b]) continue;
    const auto block = static_cast<int64_t>(b);
    problem(CheckpointError("{}: checksum mismatch in {} (block {})", path,
                            TensorsInBlock(manifest_, file, block), block));
  }
}

absl::Status CheckpointReader::Read(size_t tensor, int64_t begin, int64_t count, void* data) const {
  const int64_t element = SizeOf(manifest_.tensors[tensor].dtype), end = begin + count;
  for (const CheckpointFile& file : manifest_.files) {
    std::optional<FileDescriptor> opened;
    for (const CheckpointSlice& slice : file.slices) {
      const int64_t from = std::max(begin, slice.offset),
                    to = std::min(end, slice.offset + slice.count);
      if (slice.tensor != static_cast<int64_t>(tensor) || from >= to) continue;
      if (!opened) {
        LACUNA_ASSIGN_OR_RETURN(opened, FileDescriptor::OpenRead(path_ + "/" + file.name, kCode));
      }
      char* target = static_cast<char*>(data) + (from - begin) * element;
      LACUNA_RETURN_IF_ERROR(opened->ReadAt(slice.at + (from - slice.offset) * element, target,
                                            (to - from) * element));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Tensor> CheckpointReader::Read(size_t tensor) const {
  const CheckpointTensor& info = manifest_.tensors[tensor];
  Tensor result = Tensor::Empty(info.shape, info.dtype);
  LACUNA_RETURN_IF_ERROR(Read(tensor, 0, result.numel(), result.MutableRef().data));
  return result;
}

absl::StatusOr<uint64_t> CheckpointReader::TensorHash(size_t tensor) const {
  const CheckpointTensor& info = manifest_.tensors[tensor];
  const uint64_t key = TensorKey(info.name, info.dtype, info.shape);
  const int64_t numel = NumElements(info.shape), chunk = kHashBlockBytes / SizeOf(info.dtype);
  uint64_t sum = HashOfKey(key);
  std::vector<char> buffer;
  for (int64_t begin = 0; begin < numel; begin += chunk) {
    const int64_t count = std::min(chunk, numel - begin);
    buffer.resize(static_cast<size_t>(count * SizeOf(info.dtype)));
    LACUNA_RETURN_IF_ERROR(Read(tensor, begin, count, buffer.data()));
    sum += HashElements(key, info.dtype, begin, buffer.data(), count);
  }
  if (info.hash && *info.hash != sum) {
    return CheckpointError("{}: {} has hash {}, the manifest says {}", path_, info.name, ToHex(sum),
                           ToHex(*info.hash));
  }
  return sum;
}

absl::StatusOr<uint64_t> CheckpointReader::StateHash() const {
  uint64_t sum = 0;
  for (size_t t = 0; t < manifest_.tensors.size(); ++t) {
    LACUNA_ASSIGN_OR_RETURN(const uint64_t hash, TensorHash(t));
    sum += hash;
  }
  return sum;
}

absl::Status VerifyCheckpoint(const std::string& path) {
  LACUNA_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(path));
  const std::vector<std::string> problems = reader.Verify();
  return problems.empty() ? absl::OkStatus() : CheckpointError("{}", problems[0]);
}

}  // namespace lacuna
