// What `lacuna synth` prints.
#include <fmt/format.h>

#include <algorithm>

#include "data/synth/problem_set.h"

namespace lacuna {
namespace {

std::string Thousands(int64_t count) {
  std::string text = std::to_string(count);
  for (size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, 1, ',');
  return text;
}

}  // namespace

std::string ToString(const std::vector<SynthLevelReport>& report) {
  size_t width = 5;
  for (const SynthLevelReport& row : report) width = std::max(width, row.about.size());
  std::string text = fmt::format("{:<14}  {:>5}  {:<{}}  {:>9}  {:>8}  {:>27}  {:>9}  {:>8}\n", "",
                                 "", "", width, "", "", "median characters", "", "");
  text += fmt::format("{:<14}  {:>5}  {:<{}}  {:>9}  {:>8}  {:>13} {:>13}  {:>9}  {:>8}\n", "task",
                      "level", "each", width, "training", "held out", "question", "steps",
                      "longest", "~tokens");
  for (const SynthLevelReport& row : report) {
    text +=
        fmt::format("{:<14}  {:>5}  {:<{}}  {:>9}  {:>8}  {:>13} {:>13}  {:>9}  {:>8}\n", row.task,
                    row.level, row.about, width, Thousands(row.count), Thousands(row.held_out),
                    Thousands(row.user_characters), Thousands(row.reasoning_characters),
                    Thousands(row.longest), Thousands(row.tokens));
  }
  return text;
}

std::string SynthTasksText() {
  std::string text;
  for (const SynthTask& task : SynthTasks()) {
    text += fmt::format("{}{}: {}\n", text.empty() ? "" : "\n", task.name, task.about);
    for (size_t i = 0; i < task.levels.size(); ++i)
      text += fmt::format("  level {:>2}  {}\n", i + 1, task.levels[i]);
  }
  return text;
}

}  // namespace lacuna
