// The part of a save that a rank does alone: planning its share and writing it.
#include <algorithm>

#include "core/io/block_hash.h"
#include "core/io/hdf5_file.h"
#include "distributed/checkpoint_writer.h"
#include "distributed/state_hash.h"

namespace lacuna {
namespace {

using nlohmann::json;

constexpr ExitCode kCode = ExitCode::kCheckpoint;

const char* BytesOf(const TensorSlice& slice, int64_t element) {
  LACUNA_CHECK(slice.tensor.defined() && slice.tensor.device() == kCpu,
               "checkpoint: {} is not a tensor on the CPU", slice.name);
  return static_cast<const char*>(slice.tensor.Ref().data) + element * SizeOf(slice.tensor.dtype());
}

// A whole tensor keeps its shape; a part says which elements it holds.
std::string DatasetName(const TensorSlice& slice, const SharePiece& piece) {
  if (piece.count == NumElements(slice.global_shape)) return slice.name;
  const int64_t begin = slice.offset + piece.begin;
  return fmt::format("{}[{}:{}]", slice.name, begin, begin + piece.count);
}

void Declare(Hdf5Writer& writer, const TensorSlice& slice, const SharePiece& piece) {
  const std::string name = DatasetName(slice, piece);
  const bool whole = piece.count == NumElements(slice.global_shape);
  writer.AddDataset(name, ToHdf5Type(slice.tensor.dtype()),
                    whole
                        ? std::vector<int64_t>(slice.global_shape.begin(), slice.global_shape.end())
                        : std::vector<int64_t>{piece.count});
  if (whole) return;
  writer.SetAttribute(name, "global_shape", ToString(slice.global_shape));
  writer.SetAttribute(name, "offset", slice.offset + piece.begin);
}

// A dataset's bytes, and what they are of the whole tensor.
struct Source {
  const TensorSlice* slice = nullptr;
  SharePiece piece;
  uint64_t hash = 0;  // HashElements of what was written

  int64_t first() const { return slice->offset + piece.begin; }
};

// All bytes of the file in order: structure is on disk already, data goes there now, both into the
// hash. A block is written, hashed as part of the file and of its tensor while it is in the cache.
absl::StatusOr<BlockHashes> WriteHashed(Hdf5Writer& writer, const std::atomic<bool>* stop,
                                        std::map<std::string, Source>* sources) {
  BlockHasher hasher;
  std::vector<char> buffer;
  int64_t at = 0;
  const auto hash_structure = [&](int64_t end) {
    buffer.resize(static_cast<size_t>(end - at));
    writer.ReadStructure(at, buffer.data(), end - at);
    hasher.Update(buffer.data(), end - at);
  };
  for (const Hdf5Dataset& dataset : writer.datasets()) {
    if (dataset.bytes == 0) continue;
    hash_structure(dataset.offset);
    Source& source = sources->at(dataset.path);
    const TensorSlice& slice = *source.slice;
    const DType dtype = slice.tensor.dtype();
    const uint64_t key = TensorKey(slice.name, dtype, slice.global_shape);
    const char* bytes = BytesOf(slice, source.piece.begin);
    for (int64_t done = 0; done < dataset.bytes;) {
      if (stop != nullptr && *stop) return CheckpointError("the save was given up");
      const int64_t part = std::min(dataset.bytes - done, kHashBlockBytes);
      LACUNA_RETURN_IF_ERROR(writer.Write(dataset.path, done, bytes + done, part));
      hasher.Update(bytes + done, part);
      source.hash += HashElements(key, dtype, source.first() + done / SizeOf(dtype), bytes + done,
                                  part / SizeOf(dtype));
      done += part;
    }
    at = dataset.offset + dataset.bytes;
  }
  hash_structure(writer.file_bytes());
  return hasher.Finish();
}

}  // namespace

std::vector<SharePiece> PlanShare(const TrainingState& state, int rank, int size) {
  // Bytes of the pieces of a number of replicas: all, and those before the piece at hand.
  struct Group {
    int64_t total = 0, at = 0;
  };
  std::map<int, Group> groups;
  const auto replicas_of = [&](const TensorSlice& slice) {
    return slice.replicas == 0 ? size : slice.replicas;
  };
  for (const TensorSlice& slice : state.tensors)
    groups[replicas_of(slice)].total += slice.tensor.bytes();
  std::vector<SharePiece> pieces;
  for (size_t s = 0; s < state.tensors.size(); ++s) {
    const TensorSlice& slice = state.tensors[s];
    const int replicas = replicas_of(slice), replica = slice.replicas == 0 ? rank : slice.replica;
    Group& group = groups[replicas];
    const int64_t count = slice.tensor.numel(), element = SizeOf(slice.tensor.dtype());
    // Cuts fall between elements; all replicas round them alike.
    const auto cut = [&](int r) {
      if (r == replicas) return count;
      const int64_t byte =
          group.total / replicas * r + std::min<int64_t>(r, group.total % replicas) - group.at;
      return std::clamp<int64_t>((byte + element - 1) / element, 0, count);
    };
    const int64_t begin = cut(replica), end = cut(replica + 1);
    // A tensor without elements has to be somebody's.
    const bool is_empty = NumElements(slice.global_shape) == 0;
    if (end > begin || (is_empty && rank == 0)) pieces.push_back({s, begin, end - begin});
    group.at += slice.tensor.bytes();
  }
  return pieces;
}

TrainingState ShareOf(const TrainingState& state, int rank, int size) {
  TrainingState share = state;
  for (TensorSlice& slice : share.tensors) {
    slice.tensor = Tensor::Empty({0}, slice.tensor.dtype());
    slice.replica = 0;
    slice.replicas = 1;
  }
  for (const SharePiece& piece : PlanShare(state, rank, size)) {
    const Tensor& whole = state.tensors[piece.slice].tensor;
    TensorSlice& slice = share.tensors[piece.slice];
    slice.offset += piece.begin;
    slice.tensor = piece.count == whole.numel() ? whole : whole.View(piece.begin, {piece.count});
  }
  return share;
}

TrainingState CheckpointWriter::ShareOf(const TrainingState& state) const {
  return lacuna::ShareOf(state, rank_, size_);
}

absl::Status CheckpointWriter::WriteShare(const SaveAttempt& attempt, const TrainingState& state,
                                          const std::atomic<bool>* stop,
                                          std::string* record) const {
  const std::string name = fmt::format("rank_{}.h5", rank_);
  const std::string path = attempt.directory + "/" + name;
  LACUNA_ASSIGN_OR_RETURN(Hdf5Writer writer, Hdf5Writer::Create(path, kCode));
  const std::vector<SharePiece> pieces = PlanShare(state, rank_, size_);
  std::map<std::string, Source> sources;
  for (const SharePiece& piece : pieces) {
    const TensorSlice& slice = state.tensors[piece.slice];
    LACUNA_CHECK(
        slice.offset >= 0 && slice.offset + slice.tensor.numel() <= NumElements(slice.global_shape),
        "checkpoint: {} of shape {} has no elements [{}, {})", slice.name,
        ToString(slice.global_shape), slice.offset, slice.offset + slice.tensor.numel());
    Declare(writer, slice, piece);
    sources[DatasetName(slice, piece)] = {.slice = &slice, .piece = piece};
  }
  writer.SetAttribute("/", "format", std::string("lacuna checkpoint"));
  writer.SetAttribute("/", "version", kCheckpointVersion);
  writer.SetAttribute("/", "step", attempt.report.step);
  LACUNA_RETURN_IF_ERROR(writer.Seal());
  LACUNA_ASSIGN_OR_RETURN(const BlockHashes hashes, WriteHashed(writer, stop, &sources));
  LACUNA_RETURN_IF_ERROR(writer.Close());
  std::string lines;
  for (const uint64_t block : hashes.blocks) lines += ToHex(block) + "\n";
  LACUNA_RETURN_IF_ERROR(
      WriteFileDurably(attempt.directory + "/" + HashFileOf(name), lines, kCode));

  std::map<std::string, int64_t> offsets;
  for (const Hdf5Dataset& dataset : writer.datasets()) offsets[dataset.path] = dataset.offset;
  json slices = json::array();
  for (const SharePiece& piece : pieces) {
    const TensorSlice& slice = state.tensors[piece.slice];
    const std::string dataset = DatasetName(slice, piece);
    slices.push_back(
        {{"name", slice.name},
         {"dtype", static_cast<int>(slice.tensor.dtype())},
         {"shape", std::vector<int64_t>(slice.global_shape.begin(), slice.global_shape.end())},
         {"offset", slice.offset + piece.begin},
         {"count", piece.count},
         {"at", offsets.at(dataset)},
         {"hash", sources.at(dataset).hash}});
  }
  *record =
      json{{"name", name}, {"bytes", hashes.bytes}, {"hash", hashes.Root()}, {"slices", slices}}
          .dump();
  return absl::OkStatus();
}

}  // namespace lacuna
