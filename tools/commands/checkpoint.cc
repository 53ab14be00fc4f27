// lacuna ckpt: checkpoints looked at from outside a run.
#include "tools/commands/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/io/file.h"
#include "core/status.h"
#include "distributed/checkpoint_names.h"
#include "distributed/checkpoint_reader.h"
#include "tools/command.h"

namespace lacuna::tools {
namespace {

struct CheckpointCommand {
  std::string directory;
  std::string other;  // of diff
  std::optional<int64_t> step;
};

absl::Status Verify(const CheckpointCommand& command) {
  LACUNA_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> all,
                          FindCheckpoints(command.directory, command.step));
  int damaged = 0;
  for (const CheckpointInfo& info : all) {
    std::vector<std::string> problems;
    std::string hash;
    if (info.status.ok()) {
      LACUNA_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(info.path));
      problems = reader.Verify();
      if (problems.empty()) {
        const absl::StatusOr<uint64_t> state = reader.StateHash();
        if (!state.ok()) problems.push_back(Message(state.status()));
        // A format that stores no hashes has nothing to compare this one with.
        if (state.ok()) hash = fmt::format("{:016x}", *state);
        if (reader.manifest().version != kCheckpointVersion)
          hash += fmt::format("  (format {})", reader.manifest().version);
      }
    } else {
      problems.push_back(Message(info.status));
    }
    damaged += problems.empty() ? 0 : 1;
    if (problems.empty()) {
      std::printf("step %-8lld  ok       %10s  state hash %s\n", static_cast<long long>(info.step),
                  FormatBytes(info.bytes).c_str(), hash.c_str());
    } else {
      std::printf("step %-8lld  DAMAGED\n", static_cast<long long>(info.step));
    }
    for (const std::string& problem : problems) std::printf("  %s\n", problem.c_str());
  }
  if (damaged == 0) return absl::OkStatus();
  return CheckpointError("{} of {} checkpoint{} damaged", damaged, all.size(),
                         all.size() == 1 ? "" : "s");
}

struct Statistics {
  double rms = 0;
  double max = 0;  // of |x|
  int64_t non_finite = 0;
};

absl::StatusOr<Statistics> StatisticsOf(const CheckpointReader& reader, size_t tensor) {
  constexpr int64_t kChunk = int64_t{1} << 20;
  const CheckpointTensor& info = reader.manifest().tensors[tensor];
  const int64_t numel = NumElements(info.shape);
  Statistics statistics;
  double squares = 0;
  for (int64_t begin = 0; begin < numel; begin += kChunk) {
    Tensor part = Tensor::Empty({std::min(kChunk, numel - begin)}, info.dtype);
    LACUNA_RETURN_IF_ERROR(reader.Read(tensor, begin, part.numel(), part.MutableRef().data));
    for (const double x : part.ToDoubles()) {
      if (!std::isfinite(x)) {
        ++statistics.non_finite;
        continue;
      }
      squares += x * x;
      statistics.max = std::max(statistics.max, std::abs(x));
    }
  }
  const int64_t finite = numel - statistics.non_finite;
  statistics.rms = finite == 0 ? 0 : std::sqrt(squares / static_cast<double>(finite));
  return statistics;
}

// A line of the table: a parameter with its moments, or a tensor of another kind.
struct Row {
  std::string name;
  size_t tensor = 0;
  std::optional<size_t> first_moment, second_moment;
};

std::vector<Row> RowsOf(const Manifest& manifest) {
  std::map<std::string, size_t> index;
  for (size_t t = 0; t < manifest.tensors.size(); ++t) index[manifest.tensors[t].name] = t;
  const auto moment = [&](const char* group, const std::string& name) -> std::optional<size_t> {
    const auto found = index.find(group + name);
    return found == index.end() ? std::nullopt : std::optional<size_t>(found->second);
  };
  std::vector<Row> rows;
  for (size_t t = 0; t < manifest.tensors.size(); ++t) {
    const std::string& name = manifest.tensors[t].name;
    if (name.starts_with("adamw_m/") || name.starts_with("adamw_v/")) {
      if (index.contains("model/" + name.substr(8))) continue;  // stands beside its parameter
    }
    const std::string bare = name.starts_with("model/") ? name.substr(6) : "";
    rows.push_back(
        {.name = bare.empty() ? name : bare, .tensor = t, .first_moment = {}, .second_moment = {}});
    if (bare.empty()) continue;
    rows.back().first_moment = moment("adamw_m/", bare);
    rows.back().second_moment = moment("adamw_v/", bare);
  }
  return rows;
}

absl::Status PrintTensors(const CheckpointReader& reader) {
  const std::vector<Row> rows = RowsOf(reader.manifest());
  size_t width = 9;
  for (const Row& row : rows) width = std::max(width, row.name.size());
  fmt::print("{:<{}}  {:<5} {:>18}  {:>9} {:>9}  {:>9} {:>9}  {:>9} {:>9}\n", "", width, "", "",
             "weight", "", "moment m", "", "moment v", "");
  fmt::print("{:<{}}  {:<5} {:>18}  {:>9} {:>9}  {:>9} {:>9}  {:>9} {:>9}\n", "parameter", width,
             "dtype", "shape", "rms", "max", "rms", "max", "rms", "max");
  int64_t non_finite = 0;
  for (const Row& row : rows) {
    const CheckpointTensor& info = reader.manifest().tensors[row.tensor];
    std::string line = fmt::format("{:<{}}  {:<5} {:>18}", row.name, width, NameOf(info.dtype),
                                   ToString(info.shape));
    int64_t bad = 0;
    for (const std::optional<size_t> tensor :
         {std::optional<size_t>(row.tensor), row.first_moment, row.second_moment}) {
      if (!tensor) continue;
      LACUNA_ASSIGN_OR_RETURN(const Statistics statistics, StatisticsOf(reader, *tensor));
      line += fmt::format("  {:>9.3g} {:>9.3g}", statistics.rms, statistics.max);
      bad += statistics.non_finite;
    }
    if (bad > 0) line += fmt::format("  {} NaN or inf", bad);
    non_finite += bad;
    fmt::print("{}\n", line);
  }
  fmt::print("\n{}\n", non_finite == 0 ? "every element is finite"
                                       : fmt::format("{} element{} NaN or inf", non_finite,
                                                     non_finite == 1 ? " is" : "s are"));
  return absl::OkStatus();
}

absl::Status Show(const CheckpointCommand& command) {
  LACUNA_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> all,
                          FindCheckpoints(command.directory, command.step));
  const CheckpointInfo* shown = nullptr;
  fmt::print("{:>10}  {:>10}  {}\n", "step", "size", "saved");
  for (const CheckpointInfo& info : all) {
    fmt::print("{:>10}  {:>10}  {}\n", info.step, info.status.ok() ? FormatBytes(info.bytes) : "-",
               info.status.ok() ? info.created : Message(info.status));
    if (shown == nullptr && info.status.ok()) shown = &info;
  }
  if (shown == nullptr)
    return CheckpointError("{}: no checkpoint has a good manifest", command.directory);
  LACUNA_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(shown->path));
  const std::vector<std::string> problems = reader.Verify();
  if (!problems.empty()) return CheckpointError("{}", problems[0]);
  const Manifest& manifest = reader.manifest();
  int64_t parameters = 0;
  for (const CheckpointTensor& tensor : manifest.tensors)
    parameters += tensor.name.starts_with("model/") ? NumElements(tensor.shape) : 0;
  fmt::print("\n{}: {} parameters, {} tensors, written by {} rank{}, every block verified\n",
             shown->path, parameters, manifest.tensors.size(), manifest.files.size(),
             manifest.files.size() == 1 ? "" : "s");
  fmt::print("  {:<24} {}\n  {:<24} {}\n", "format", manifest.version, "layout",
             manifest.layout.dump());
  for (const auto& [key, value] : manifest.scalars.items())
    fmt::print("  {:<24} {}\n", key, value.dump());
  fmt::print("\n");
  return PrintTensors(reader);
}

CLI::App* AddAction(CLI::App* command, const std::shared_ptr<CheckpointCommand>& options,
                    const char* name, const char* description) {
  CLI::App* action = command->add_subcommand(name, description);
  action
      ->add_option("directory", options->directory,
                   "A run's folder, a folder of checkpoints, or one checkpoint (step_N)")
      ->required();
  action->add_option("--step", options->step, "Only the checkpoint of this step")
      ->check(CLI::NonNegativeNumber);
  action->footer(fmt::format("Example: lacuna ckpt {} runs/quickstart --step 400", name));
  return action;
}

}  // namespace

absl::StatusOr<std::vector<CheckpointInfo>> FindCheckpoints(std::string path,
                                                            std::optional<int64_t> step) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (PathExists(path + "/checkpoints")) path += "/checkpoints";
  const size_t slash = path.rfind('/');
  const std::string last = slash == std::string::npos ? path : path.substr(slash + 1);
  if (const auto named = StepOfName(last); named && !step) {
    step = named;
    path = slash == std::string::npos ? "." : path.substr(0, slash);
  }
  LACUNA_ASSIGN_OR_RETURN(std::vector<CheckpointInfo> all, ListCheckpoints(path));
  if (all.empty()) return CheckpointError("{}: has no checkpoint", path);
  if (!step) return all;
  std::erase_if(all, [&](const CheckpointInfo& info) { return info.step != *step; });
  if (all.empty()) return CheckpointError("{}: has no checkpoint of step {}", path, *step);
  return all;
}

void AddCheckpointCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<CheckpointCommand>();
  CLI::App* command =
      app.add_subcommand("ckpt", "Verify checkpoints, show what they hold, or compare two");
  command->require_subcommand(1);
  AddAction(command, options, "verify",
            "Check every byte against its checksum; exit code 4 where a checkpoint is damaged")
      ->callback([options, &run] { run = [options] { return Verify(*options); }; });
  AddAction(command, options, "show",
            "List checkpoints; print the tensors of the last saved one with rms and max of weights "
            "and moments")
      ->callback([options, &run] { run = [options] { return Show(*options); }; });
  CLI::App* diff = command->add_subcommand(
      "diff", "List the tensors in which two checkpoints differ; exit code 4 where there is one");
  diff->add_option("directory", options->directory,
                   "A run's folder, a folder of checkpoints (the last saved), or one checkpoint")
      ->required();
  diff->add_option("other", options->other, "What to compare with; the same choice")->required();
  diff->footer("Example: lacuna ckpt diff runs/a/checkpoints/step_400 runs/b/checkpoints/step_400");
  diff->callback([options, &run] {
    run = [options] { return DiffCheckpoints(options->directory, options->other); };
  });
  command->footer(
      "Examples:\n  lacuna ckpt verify runs/quickstart\n  lacuna ckpt show runs/quickstart --step "
      "400");
}

}  // namespace lacuna::tools
