#include "distributed/checkpoint_writer.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <random>

#include "core/io/block_hash.h"
#include "core/io/file.h"
#include "distributed/checkpoint_names.h"
#include "distributed/checkpoint_reader.h"
#include "distributed/state_hash.h"

namespace lacuna {
namespace {

using nlohmann::json;

constexpr ExitCode kCode = ExitCode::kCheckpoint;
// Structure, hashes and manifest beside the tensors' bytes, in the estimate of what a save needs.
constexpr int64_t kOverheadBytes = int64_t{1} << 20;

int64_t BytesOfRank(const TrainingState& state, int rank, int size) {
  int64_t bytes = 0;
  for (const SharePiece& piece : PlanShare(state, rank, size))
    bytes += piece.count * SizeOf(state.tensors[piece.slice].tensor.dtype());
  return bytes;
}

// The ranks' records as one index: tensors in order of rank 0's state, then those only other ranks
// have.
absl::StatusOr<Manifest> Assemble(const TrainingState& state,
                                  const std::vector<std::string>& records) {
  Manifest manifest;
  std::map<std::string, int64_t> index;
  const auto find = [&](const std::string& name, DType dtype,
                        const Shape& shape) -> absl::StatusOr<int64_t> {
    const auto [place, inserted] =
        index.emplace(name, static_cast<int64_t>(manifest.tensors.size()));
    if (inserted) {
      manifest.tensors.push_back({name, dtype, shape, HashOfKey(TensorKey(name, dtype, shape))});
    }
    const CheckpointTensor& known = manifest.tensors[static_cast<size_t>(place->second)];
    if (known.dtype != dtype || known.shape != shape) {
      return CheckpointError("{} is {} {} and {} {}", name, NameOf(known.dtype),
                             ToString(known.shape), NameOf(dtype), ToString(shape));
    }
    return place->second;
  };
  for (const TensorSlice& slice : state.tensors) {
    LACUNA_RETURN_IF_ERROR(find(slice.name, slice.tensor.dtype(), slice.global_shape).status());
  }
  for (const std::string& text : records) {
    const json record = json::parse(text);
    CheckpointFile file{.name = record.at("name"),
                        .bytes = record.at("bytes"),
                        .hash = record.at("hash"),
                        .slices = {}};
    for (const json& slice : record.at("slices")) {
      const auto dims = slice.at("shape").get<std::vector<int64_t>>();
      LACUNA_ASSIGN_OR_RETURN(
          const int64_t tensor,
          find(slice.at("name"), static_cast<DType>(slice.at("dtype").get<int>()),
               Shape(dims.begin(), dims.end())));
      file.slices.push_back({tensor, slice.at("offset"), slice.at("count"), slice.at("at")});
      *manifest.tensors[static_cast<size_t>(tensor)].hash += slice.at("hash").get<uint64_t>();
    }
    manifest.files.push_back(std::move(file));
  }
  LACUNA_RETURN_IF_ERROR(CheckCoverage(manifest));
  return manifest;
}

}  // namespace

CheckpointWriter::CheckpointWriter(Communicator& comm, CheckpointOptions options)
    : comm_(comm), rank_(comm.rank()), size_(comm.size()), options_(std::move(options)) {}

absl::Status CheckpointWriter::RemoveStale(const RunLock&) {
  if (!PathExists(options_.directory)) return absl::OkStatus();
  LACUNA_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                          ListDirectory(options_.directory, kCode));
  for (const std::string& name : names) {
    if (!IsTemporaryName(name)) continue;
    const std::string path = options_.directory + "/" + name;
    // Where the file system knows no exchange, a kill can leave the old checkpoint moved aside and
    // nothing in its place.
    const std::string original = options_.directory + "/" + name.substr(0, name.find('.'));
    if (name.ends_with(kAsideSuffix) && !PathExists(original)) {
      LACUNA_RETURN_IF_ERROR(RenamePath(path, original, kCode));
    } else {
      LACUNA_RETURN_IF_ERROR(RemoveTree(path, kCode));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SaveReport> CheckpointWriter::Save(int64_t step, const TrainingState& state) {
  LACUNA_ASSIGN_OR_RETURN(SaveAttempt attempt, Begin(step, state));
  std::string record;
  const absl::Status written = WriteShare(attempt, state, nullptr, &record);
  LACUNA_ASSIGN_OR_RETURN(const std::vector<std::string> records,
                          GatherRecords(attempt, written, record));
  const absl::Status committed = rank_ == 0 ? Commit(state, records, &attempt) : absl::OkStatus();
  return End(std::move(attempt), committed);
}

absl::StatusOr<SaveAttempt> CheckpointWriter::Begin(int64_t step, const TrainingState& state) {
  LACUNA_CHECK(step >= 0, "checkpoint of step {}", step);
  SaveAttempt attempt{
      .report = {.step = step, .path = fmt::format("{}/step_{}", options_.directory, step)},
      .directory = "",
      .begin = SteadyClock::now()};
  const Deadline deadline = AfterSeconds(options_.deadline_seconds);
  Tensor bytes = Tensor::FromVector(std::vector<int64_t>{BytesOfRank(state, rank_, size_)}, {1});
  comm_.AllReduceSum(bytes).Wait(deadline);
  attempt.report.bytes = bytes.data<int64_t>()[0];
  absl::StatusOr<std::string> temporary = std::string();
  if (rank_ == 0) temporary = MakeTemporary(step, attempt.report.bytes);
  LACUNA_RETURN_IF_ERROR(Agree(attempt, temporary.status()));
  attempt.directory = BroadcastNow(comm_, *temporary, 0, deadline);
  return attempt;
}

absl::StatusOr<std::vector<std::string>> CheckpointWriter::GatherRecords(
    const SaveAttempt& attempt, const absl::Status& written, const std::string& record) {
  LACUNA_RETURN_IF_ERROR(Agree(attempt, written));
  return AllGatherNow(comm_, record, AfterSeconds(options_.deadline_seconds));
}

absl::StatusOr<SaveReport> CheckpointWriter::End(SaveAttempt attempt,
                                                 const absl::Status& committed) {
  LACUNA_RETURN_IF_ERROR(Agree(attempt, committed));
  SaveReport& report = attempt.report;
  const std::string hash =
      BroadcastNow(comm_, ToHex(report.state_hash), 0, AfterSeconds(options_.deadline_seconds));
  LACUNA_CHECK(FromHex(hash, &report.state_hash), "state hash {}", hash);
  report.seconds = SecondsSince(attempt.begin);
  return std::move(report);
}

absl::Status CheckpointWriter::Agree(const SaveAttempt& attempt, const absl::Status& mine) {
  const absl::Status all = AgreeOnStatus(comm_, mine.ok() ? mine : Describe(mine, attempt),
                                         AfterSeconds(options_.deadline_seconds));
  if (all.ok()) return all;
  // Nobody writes any more: all have reported. A failed removal is the next start's to repeat.
  if (rank_ == 0 && !attempt.renamed && !attempt.directory.empty())
    (void)RemoveTree(attempt.directory, kCode);
  return CheckpointError("checkpoint step {} failed: {}", attempt.report.step, Message(all));
}

absl::StatusOr<std::string> CheckpointWriter::MakeTemporary(int64_t step, int64_t bytes) const {
  LACUNA_RETURN_IF_ERROR(MakeDirectories(options_.directory, kCode));
  // Better not to start than to fill the disk that the run logs to.
  LACUNA_ASSIGN_OR_RETURN(const int64_t free, FreeBytes(options_.directory, kCode));
  if (free < bytes + kOverheadBytes) return FileError(kCode, options_.directory, "write", ENOSPC);
  std::random_device random;
  const std::string path =
      fmt::format("{}/step_{}.tmp.{:08x}{:08x}", options_.directory, step, random(), random());
  if (::mkdir(path.c_str(), 0777) != 0)
    return FileError(kCode, path, "create the directory", errno);
  return path;
}

absl::Status CheckpointWriter::Commit(const TrainingState& state,
                                      const std::vector<std::string>& records,
                                      SaveAttempt* attempt) const {
  const std::string& temporary = attempt->directory;
  SaveReport* report = &attempt->report;
  const int64_t step = report->step;
  LACUNA_ASSIGN_OR_RETURN(Manifest manifest, Assemble(state, records));
  manifest.step = step;
  manifest.created = UtcNow();
  manifest.recipe = options_.recipe;
  manifest.layout = options_.layout;
  manifest.layout["ranks"] = size_;
  manifest.scalars = state.scalars;
  LACUNA_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> existing,
                          ListCheckpoints(options_.directory));
  for (const CheckpointInfo& info : existing)
    manifest.serial = std::max(manifest.serial, info.serial + 1);
  report->bytes = manifest.TotalBytes();
  report->state_hash = *manifest.StateHash();

  LACUNA_RETURN_IF_ERROR(
      WriteFileDurably(temporary + "/" + kManifestName, FormatManifest(manifest), kCode));
  LACUNA_RETURN_IF_ERROR(ReplaceDirectory(temporary, report->path, kCode));
  attempt->renamed = true;
  LACUNA_RETURN_IF_ERROR(FsyncDirectory(options_.directory, kCode));
  // The checkpoint is safe from here on: what fails now is a warning. After an exchange the former
  // contents are the temporary ones.
  if (PathExists(temporary)) (void)RemoveTree(temporary, kCode);
  const absl::Status latest = WriteFileDurably(options_.directory + "/" + kLatestName,
                                               fmt::format("step_{}\n", step), kCode);
  if (latest.ok()) {
    RemoveOld(step, report);
  } else {
    report->warnings.push_back(fmt::format("step {} is saved, but {}", step, Message(latest)));
  }
  return absl::OkStatus();
}

void CheckpointWriter::RemoveOld(int64_t step, SaveReport* report) const {
  if (options_.keep_latest <= 0) return;
  const absl::StatusOr<std::vector<CheckpointInfo>> all = ListCheckpoints(options_.directory);
  if (!all.ok()) return report->warnings.push_back(Message(all.status()));
  // Checkpoints of higher steps are from before a rewind (or damaged): they do not count, and go
  // when all that is kept is newer.
  int kept = 0;
  for (const CheckpointInfo& info : *all) {
    if (!info.status.ok()) continue;
    if (kept < options_.keep_latest) {
      kept += info.step <= step ? 1 : 0;
      continue;
    }
    // Under another name first: a removal that is cut short must not look like a damaged
    // checkpoint.
    const std::string doomed = info.path + ".tmp.removed";
    absl::Status status = RemoveTree(doomed, kCode);
    if (status.ok()) status = RenamePath(info.path, doomed, kCode);
    if (status.ok()) status = RemoveTree(doomed, kCode);
    if (!status.ok()) report->warnings.push_back(Message(status));
  }
}

// "No space left on device (need 41.2 GB, free 3.1 GB); kept step 1000"
absl::Status CheckpointWriter::Describe(const absl::Status& failure,
                                        const SaveAttempt& attempt) const {
  std::string text = Message(failure);
  const int error = ErrnoOf(failure);
  if (error == ENOSPC || error == EDQUOT) {
    const absl::StatusOr<int64_t> free = FreeBytes(options_.directory, kCode);
    text = fmt::format("{} (need {}, free {})", std::strerror(error),
                       FormatBytes(attempt.report.bytes + kOverheadBytes),
                       free.ok() ? FormatBytes(*free) : "unknown");
  }
  if (attempt.renamed)
    return CheckpointError("{}; step_{} is written, but may not survive a power failure", text,
                           attempt.report.step);
  std::string kept = "; no earlier checkpoint";
  const absl::StatusOr<std::vector<CheckpointInfo>> all = ListCheckpoints(options_.directory);
  for (const CheckpointInfo& info : all.ok() ? *all : std::vector<CheckpointInfo>()) {
    if (!info.status.ok()) continue;
    kept = fmt::format("; kept step {}", info.step);
    break;
  }
  return CheckpointError("{}{}", text, kept);
}

}  // namespace lacuna
