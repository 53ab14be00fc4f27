#include "data/synth/problem.h"

namespace lacuna {

const std::vector<SynthTask>& SynthTasks() {
  static const std::vector<SynthTask> tasks = {ModularChainTask(), AdditionTask(),
                                               MultiplicationTask(), GraphPathTask(), RecallTask()};
  return tasks;
}

std::string SpacedNumber(int64_t value) {
  std::string text;
  for (const char c : std::to_string(value)) {
    if (!text.empty()) text += ' ';
    text += c;
  }
  return text;
}

std::string SpacedDigits(const std::vector<int>& digits) {
  std::string text;
  for (const int digit : digits) {
    if (!text.empty()) text += ' ';
    text += static_cast<char>('0' + digit);
  }
  return text;
}

}  // namespace lacuna
