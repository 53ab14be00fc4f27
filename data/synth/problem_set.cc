#include "data/synth/problem_set.h"

#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/container/flat_hash_set.h"
#include "core/parallel.h"
#include "core/status.h"
#include "data/synth/answer_check.h"
#include "data/synth/line_file.h"

namespace lacuna {
namespace {

uint64_t Hash(std::string_view text) {
  return XXH3_64bits(text.data(), text.size());
}

// The problems of one task, level and side of the split, in the order of their numbers.
class ProblemSource {
 public:
  ProblemSource(const SynthTask& task, int level, bool held_out, uint64_t seed)
      : task_(task), level_(level), held_out_(held_out), seed_(seed) {}

  // The next one that is new; an error where there seem to be no others: of n equally likely
  // problems one is not seen in 40 n draws with a probability of e^-40.
  absl::StatusOr<SynthDraft> Next(int64_t wanted) {
    for (int64_t failed = 0; failed < 1000 + 40 * static_cast<int64_t>(seen_.size()); ++failed) {
      const std::string stream = fmt::format("{}/{}/{}", task_.name, level_, number_++);
      RandomStream random(seed_, Hash(stream));
      SynthDraft draft = task_.draw(level_, random);
      if (IsHeldOut(draft.canonical) != held_out_ || !seen_.insert(Hash(draft.canonical)).second)
        continue;
      return draft;
    }
    return ConfigError("synth: {} level {}: {} {} problems asked for, there are only {}",
                       task_.name, level_, wanted, held_out_ ? "held-out" : "training",
                       seen_.size());
  }

  const SynthTask& task() const { return task_; }
  int level() const { return level_; }

 private:
  SynthTask task_;
  int level_;
  bool held_out_;
  uint64_t seed_;
  uint64_t number_ = 0;
  absl::flat_hash_set<uint64_t> seen_;
};

struct Lengths {
  std::vector<int64_t> user, reasoning, all;

  void Add(const SynthProblem& problem) {
    user.push_back(static_cast<int64_t>(problem.user.size()));
    reasoning.push_back(static_cast<int64_t>(problem.reasoning.size()));
    all.push_back(user.back() + reasoning.back() + static_cast<int64_t>(problem.answer.size()));
  }
};

int64_t Median(std::vector<int64_t> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<int64_t>(values.size()) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::string JsonLine(const SynthTask& task, int level, const SynthProblem& problem) {
  using nlohmann::ordered_json;
  const ordered_json user = {{"role", "user"}, {"content", problem.user}};
  const ordered_json assistant = {
      {"role", "assistant"}, {"reasoning_content", problem.reasoning}, {"content", problem.answer}};
  const ordered_json line = {{"messages", ordered_json::array({user, assistant})},
                             {"task", task.name},
                             {"level", level},
                             {"answer", problem.answer}};
  return line.dump() + "\n";
}

// A wrong solution is a defect of ours and ends the program.
absl::Status Verify(const SynthTask& task, int level, const SynthProblem& problem) {
  LACUNA_ASSIGN_OR_RETURN(const std::string name, TaskOfProblem(problem.user));
  LACUNA_ASSIGN_OR_RETURN(CheckVerdict verdict, CheckAnswer(problem.user, problem.answer));
  if (verdict.correct) {
    LACUNA_ASSIGN_OR_RETURN(verdict, CheckTrace(problem.user, problem.reasoning));
  }
  if (verdict.correct && name == task.name) return absl::OkStatus();
  return MakeError(ExitCode::kFailure, fmt::format("synth: {} level {}: \"{}\": {}", task.name,
                                                   level, problem.user, verdict.why));
}

struct Written {
  SynthProblem problem;
  std::string line;
  absl::Status status;
};

// `count` problems of every source, the sources in turn.
absl::Status WriteFile(std::vector<ProblemSource> sources, int64_t count, LineFile* file,
                       std::vector<Lengths>* lengths) {
  constexpr int64_t kBatch = 256;
  const auto num_sources = static_cast<int64_t>(sources.size());
  for (int64_t begin = 0; begin < count * num_sources; begin += kBatch) {
    const int64_t size = std::min(kBatch, count * num_sources - begin);
    std::vector<SynthDraft> drafts;
    for (int64_t i = begin; i < begin + size; ++i) {
      LACUNA_ASSIGN_OR_RETURN(SynthDraft draft,
                              sources[static_cast<size_t>(i % num_sources)].Next(count));
      drafts.push_back(std::move(draft));
    }
    std::vector<Written> written(drafts.size());
    // A problem's cost is not known; waking a thread for a batch always pays.
    ParallelFor(size, 1 << 20, [&](int64_t i) {
      const ProblemSource& source = sources[static_cast<size_t>((begin + i) % num_sources)];
      Written& out = written[static_cast<size_t>(i)];
      out.problem = drafts[static_cast<size_t>(i)].solve();
      out.status = Verify(source.task(), source.level(), out.problem);
      out.line = JsonLine(source.task(), source.level(), out.problem);
    });
    for (int64_t i = 0; i < size; ++i) {
      const Written& out = written[static_cast<size_t>(i)];
      LACUNA_RETURN_IF_ERROR(out.status);
      LACUNA_RETURN_IF_ERROR(file->Append(out.line));
      (*lengths)[static_cast<size_t>((begin + i) % num_sources)].Add(out.problem);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SynthTask> FindTask(const std::string& name) {
  std::string known;
  for (const SynthTask& task : SynthTasks()) {
    if (name == task.name) return task;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", task.name);
  }
  return ConfigError("synth: task {}: unknown, there are {}", name, known);
}

struct TaskLevel {
  SynthTask task;
  int level;
};

absl::StatusOr<std::vector<TaskLevel>> FindLevels(const SynthSetOptions& options) {
  if (options.count < 0 || options.held_out < 0 || options.count + options.held_out == 0)
    return ConfigError("synth: no problems asked for: give a count or held-out problems");
  std::vector<TaskLevel> found;
  for (const std::string& name : options.tasks) {
    LACUNA_ASSIGN_OR_RETURN(const SynthTask task, FindTask(name));
    for (const int level : options.levels) {
      if (level < 1 || level > static_cast<int>(task.levels.size()))
        return ConfigError("synth: level {}: {} has levels 1 to {}", level, name,
                           task.levels.size());
      for (const TaskLevel& other : found) {
        if (other.level == level && other.task.name == name)
          return ConfigError("synth: {} level {} is asked for twice", name, level);
      }
      found.push_back({task, level});
    }
  }
  if (found.empty()) return ConfigError("synth: give a task and a level");
  return found;
}

}  // namespace

bool IsHeldOut(std::string_view canonical) {
  return Hash(canonical) % 10 == 0;
}

absl::StatusOr<std::vector<int>> ParseLevels(const std::string& text) {
  std::vector<int> levels;
  const char *at = text.data(), *end = at + text.size();
  while (true) {
    int first = 0;
    auto read = std::from_chars(at, end, first);
    int last = first;
    if (read.ec == std::errc() && read.ptr != end && *read.ptr == '-')
      read = std::from_chars(read.ptr + 1, end, last);
    if (read.ec != std::errc() || last < first || last - first > 1000 ||
        (read.ptr != end && *read.ptr != ','))
      return ConfigError("levels \"{}\": must look like 2 or 1,3 or 1-4", text);
    for (int level = first; level <= last; ++level) levels.push_back(level);
    if (read.ptr == end) return levels;
    at = read.ptr + 1;
  }
}

absl::StatusOr<std::vector<SynthLevelReport>> WriteSynthSet(const SynthSetOptions& options) {
  LACUNA_ASSIGN_OR_RETURN(const std::vector<TaskLevel> pairs, FindLevels(options));
  LACUNA_RETURN_IF_ERROR(MakeDirectories(options.output, ExitCode::kData));
  std::vector<Lengths> lengths(pairs.size());
  std::vector<LineFile> files;
  for (const bool held_out : {false, true}) {
    const int64_t count = held_out ? options.held_out : options.count;
    if (count == 0) continue;
    const std::string path = options.output + (held_out ? "/heldout.jsonl" : "/train.jsonl");
    if (PathExists(path) && !options.overwrite)
      return ConfigError("{}: exists already; --overwrite replaces it", path);
    LACUNA_ASSIGN_OR_RETURN(LineFile file, LineFile::Create(path, ExitCode::kData));
    files.push_back(std::move(file));
    std::vector<ProblemSource> sources;
    for (const TaskLevel& pair : pairs)
      sources.emplace_back(pair.task, pair.level, held_out, options.seed);
    LACUNA_RETURN_IF_ERROR(WriteFile(std::move(sources), count, &files.back(), &lengths));
  }
  for (LineFile& file : files) LACUNA_RETURN_IF_ERROR(file.Finish());
  std::vector<SynthLevelReport> report;
  for (size_t i = 0; i < pairs.size(); ++i) {
    report.push_back({.task = pairs[i].task.name,
                      .level = pairs[i].level,
                      .about = pairs[i].task.levels[static_cast<size_t>(pairs[i].level) - 1],
                      .count = options.count,
                      .held_out = options.held_out,
                      .user_characters = Median(lengths[i].user),
                      .reasoning_characters = Median(lengths[i].reasoning),
                      .longest = *std::max_element(lengths[i].all.begin(), lengths[i].all.end()),
                      .tokens = static_cast<int64_t>(pairs[i].task.tokens_per_character *
                                                     static_cast<double>(Median(lengths[i].all)))});
  }
  return report;
}

}  // namespace lacuna
