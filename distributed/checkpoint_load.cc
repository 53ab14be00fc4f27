// LoadCheckpoint: choosing a checkpoint together, comparing it with what is wanted, reading.
#include <algorithm>
#include <map>
#include <set>

#include "core/io/file.h"
#include "distributed/checkpoint_names.h"
#include "distributed/checkpoint_reader.h"

namespace lacuna {
namespace {

constexpr ExitCode kCode = ExitCode::kCheckpoint;
constexpr size_t kMaxListed = 8;

std::string DescribeTensor(DType dtype, const Shape& shape) {
  return fmt::format("{} {}", NameOf(dtype), ToString(shape));
}

// Everything in which the checkpoint and the wanted tensors differ, a line each.
absl::Status Compare(const CheckpointReader& reader, const TrainingState& state,
                     const std::vector<std::string>& unused_groups, std::vector<size_t>* index) {
  std::map<std::string, size_t> held;
  for (size_t t = 0; t < reader.manifest().tensors.size(); ++t)
    held[reader.manifest().tensors[t].name] = t;
  std::vector<std::string> differences;
  std::set<std::string> wanted;
  for (const TensorSlice& slice : state.tensors) {
    const auto found = held.find(slice.name);
    if (found == held.end()) {
      differences.push_back(fmt::format("{}: not in the checkpoint, {} in the run", slice.name,
                                        DescribeTensor(slice.tensor.dtype(), slice.global_shape)));
      continue;
    }
    const CheckpointTensor& tensor = reader.manifest().tensors[found->second];
    index->push_back(found->second);
    wanted.insert(slice.name);
    if (tensor.shape == slice.global_shape && tensor.dtype == slice.tensor.dtype()) continue;
    differences.push_back(fmt::format("{}: {} in the checkpoint, {} in the run", slice.name,
                                      DescribeTensor(tensor.dtype, tensor.shape),
                                      DescribeTensor(slice.tensor.dtype(), slice.global_shape)));
  }
  for (const auto& [name, t] : held) {
    const bool may_be_unused =
        std::any_of(unused_groups.begin(), unused_groups.end(),
                    [&](const std::string& group) { return name.starts_with(group); });
    if (!may_be_unused && !wanted.contains(name)) {
      const CheckpointTensor& tensor = reader.manifest().tensors[t];
      // A name of the checkpoint's, whatever that holds.
      differences.push_back(fmt::format("{}: {} in the checkpoint, not in the run", OneLine(name),
                                        DescribeTensor(tensor.dtype, tensor.shape)));
    }
  }
  if (differences.empty()) return absl::OkStatus();
  const size_t all = differences.size(), more = all - std::min(all, kMaxListed);
  differences.resize(all - more);
  return CheckpointError("{}: does not fit the run, {} tensor{} differ{}:\n  {}{}", reader.path(),
                         all, all == 1 ? "" : "s", all == 1 ? "s" : "",
                         fmt::join(differences, "\n  "),
                         more == 0 ? "" : fmt::format("\n  and {} more", more));
}

// Rank 0's candidates, the last saved first, and its complaints about what is passed over.
struct Candidates {
  std::vector<std::string> paths;
  std::vector<std::string> skipped;
};

absl::StatusOr<Candidates> FindCandidates(const std::string& directory,
                                          const LoadOptions& options) {
  Candidates candidates;
  if (options.step) {
    candidates.paths.push_back(fmt::format("{}/step_{}", directory, *options.step));
    LACUNA_RETURN_IF_ERROR(CheckpointReader::Open(candidates.paths[0]).status());
    return candidates;
  }
  LACUNA_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> all, ListCheckpoints(directory));
  for (const CheckpointInfo& info : all) {
    if (IsOtherVersion(info.status)) return info.status;
    if (info.status.ok()) {
      candidates.paths.push_back(info.path);
    } else {
      candidates.skipped.push_back(Message(info.status));
    }
  }
  // Only a hint: the directories themselves say which save was the last.
  const absl::StatusOr<std::string> latest = ReadFile(directory + "/" + kLatestName, 100, kCode);
  if (latest.ok()) {
    const std::string name = latest->substr(0, latest->find('\n'));
    const bool known = std::any_of(all.begin(), all.end(), [&](const CheckpointInfo& info) {
      return info.path == directory + "/" + name;
    });
    if (!known)
      candidates.skipped.push_back(
          fmt::format("{}/{}: names {}, which is not there", directory, kLatestName, name));
  }
  return candidates;
}

// All ranks verify their files; the first problem of the first rank that has one.
absl::Status VerifyTogether(Communicator& comm, const CheckpointReader& reader, Deadline deadline) {
  const std::vector<std::string> problems = reader.Verify(comm.rank(), comm.size());
  std::string first;
  for (const std::string& problem :
       AllGatherNow(comm, problems.empty() ? "" : problems[0], deadline)) {
    if (first.empty()) first = problem;
  }
  return first.empty() ? absl::OkStatus() : CheckpointError("{}", first);
}

// One candidate. kDamaged: another may do.
absl::Status TryLoad(Communicator& comm, const std::string& path, const LoadOptions& options,
                     Deadline deadline, TrainingState& state, LoadedCheckpoint* loaded,
                     bool* damaged) {
  *damaged = true;
  // Every rank works from rank 0's manifest, so that all mean the same checkpoint.
  absl::StatusOr<std::string> text = std::string();
  if (comm.rank() == 0) text = ReadFile(path + "/" + kManifestName, int64_t{1} << 30, kCode);
  LACUNA_RETURN_IF_ERROR(AgreeOnStatus(comm, text.status(), deadline));
  LACUNA_ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(path + "/" + kManifestName,
                                                           BroadcastNow(comm, *text, 0, deadline)));
  const CheckpointReader reader(path, std::move(manifest));
  std::vector<size_t> index;
  const absl::Status fits =
      AgreeOnStatus(comm, Compare(reader, state, options.unused_groups, &index), deadline);
  if (!fits.ok()) {
    *damaged = false;
    return fits;
  }
  LACUNA_RETURN_IF_ERROR(VerifyTogether(comm, reader, deadline));
  absl::Status status;
  for (size_t s = 0; s < state.tensors.size() && status.ok(); ++s) {
    TensorSlice& slice = state.tensors[s];
    status =
        reader.Read(index[s], slice.offset, slice.tensor.numel(), slice.tensor.MutableRef().data);
  }
  LACUNA_RETURN_IF_ERROR(AgreeOnStatus(comm, status, deadline));
  state.scalars = reader.manifest().scalars;
  *loaded = {.step = reader.manifest().step,
             .path = path,
             .recipe = reader.manifest().recipe,
             .layout = reader.manifest().layout,
             .state_hash = reader.manifest().StateHash()};
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoadedCheckpoint> LoadCheckpoint(Communicator& comm, const std::string& directory,
                                                TrainingState& state, const LoadOptions& options) {
  const Deadline deadline = AfterSeconds(options.deadline_seconds);
  for (const TensorSlice& slice : state.tensors) {
    LACUNA_CHECK(slice.offset >= 0 &&
                     slice.offset + slice.tensor.numel() <= NumElements(slice.global_shape) &&
                     slice.tensor.device() == kCpu,
                 "load: {} of shape {} has no elements [{}, {}) on the CPU", slice.name,
                 ToString(slice.global_shape), slice.offset, slice.offset + slice.tensor.numel());
  }
  absl::StatusOr<Candidates> candidates = Candidates();
  if (comm.rank() == 0) candidates = FindCandidates(directory, options);
  LACUNA_RETURN_IF_ERROR(AgreeOnStatus(comm, candidates.status(), deadline));
  const std::string paths = BroadcastNow(
      comm, comm.rank() == 0 ? fmt::format("{}", fmt::join(candidates->paths, "\n")) : "", 0,
      deadline);
  const auto warn = [&](const std::string& text) {
    if (comm.rank() == 0) options.warn(text);
  };
  std::string last_reason;
  for (const std::string& reason : candidates->skipped) {
    warn(reason + "; not used");
    last_reason = reason;
  }
  // Rank 0's list, cut at the line breaks (a path with one in its name would have been no run
  // directory of ours).
  for (size_t begin = 0; begin < paths.size();) {
    const size_t end = std::min(paths.find('\n', begin), paths.size());
    const std::string path = paths.substr(begin, end - begin);
    begin = end + 1;
    LoadedCheckpoint loaded;
    bool damaged = false;
    const absl::Status status = TryLoad(comm, path, options, deadline, state, &loaded, &damaged);
    if (status.ok()) return loaded;
    if (!damaged || options.step) return status;
    last_reason = Message(status);
    const std::string next =
        begin < paths.size() ? paths.substr(begin, paths.find('\n', begin) - begin) : "";
    warn(fmt::format("{}; {}", last_reason,
                     next.empty() ? "no older checkpoint is left"
                                  : "falling back to " + next.substr(next.rfind('/') + 1)));
  }
  last_reason = BroadcastNow(comm, last_reason, 0, deadline);
  return CheckpointError("{}: no complete checkpoint{}", directory,
                         last_reason.empty() ? "" : " (" + last_reason + ")");
}

}  // namespace lacuna
