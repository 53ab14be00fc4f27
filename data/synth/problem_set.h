// Files of verified problems: what `lacuna synth` writes.
//
// A problem is a JSON line {"messages": [{"role": "user", "content"}, {"role": "assistant",
// "reasoning_content", "content"}], "task", "level", "answer"}; content of the assistant is the
// answer alone. Whether a problem is held out follows from a hash of its canonical text and nothing
// else (one in ten is), so no training file of any seed or size shares a problem with any held-out
// file. No file holds a problem twice. Both, and the bytes of the files, do not depend on machine
// or threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "data/synth/problem.h"

namespace lacuna {

struct SynthSetOptions {
  std::vector<std::string> tasks;
  std::vector<int> levels;
  int64_t count = 0;     // training problems of each task and level
  int64_t held_out = 0;  // held-out ones of each
  uint64_t seed = 1;
  std::string
      output;  // folder of train.jsonl and heldout.jsonl; a file without problems is left out
  bool overwrite = false;
};

struct SynthLevelReport {
  std::string task;
  int level = 1;
  std::string about;
  int64_t count = 0, held_out = 0;
  int64_t user_characters = 0, reasoning_characters = 0;  // medians over all problems
  int64_t longest = 0;  // characters of the longest problem, question, steps and answer
  int64_t tokens = 0;   // about; of a problem of median length
};

bool IsHeldOut(std::string_view canonical);

// "1,3,5-7" -> 1 3 5 6 7. A ConfigError for anything else.
absl::StatusOr<std::vector<int>> ParseLevels(const std::string& text);

// Draws, solves and checks (answer and every step: data/synth/answer_check.h) all problems and
// writes them, tasks and levels in turn. Both files appear when all is checked. ConfigErrors: an
// unknown task or level, files that exist, more problems asked for than there are.
absl::StatusOr<std::vector<SynthLevelReport>> WriteSynthSet(const SynthSetOptions& options);

// Tables for people.
std::string ToString(const std::vector<SynthLevelReport>& report);
std::string SynthTasksText();

}  // namespace lacuna
