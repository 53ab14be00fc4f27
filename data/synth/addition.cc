// Long addition of several numbers of as many digits each: column by column from the right, number
// by number within a column.
#include <fmt/format.h>

#include <algorithm>

#include "data/synth/problem.h"

namespace lacuna {
namespace {

struct Level {
  int numbers, digits;
};

constexpr Level kLevels[] = {{2, 2},   {2, 4},   {3, 6},   {4, 10},  {6, 16},
                             {10, 24}, {16, 32}, {20, 44}, {24, 56}, {28, 68}};

using Digits = std::vector<int>;  // the most significant one first

struct Sum {
  std::vector<Digits> numbers;

  std::string Question() const {
    std::string text;
    for (const Digits& number : numbers)
      text += fmt::format("{}{}", text.empty() ? "Add : " : " + ", SpacedDigits(number));
    return text;
  }

  SynthProblem Solve() const {
    SynthProblem problem{.user = Question(), .reasoning = "", .answer = ""};
    Digits written;  // the least significant one first
    int carry = 0;
    for (size_t column = numbers[0].size(); column-- > 0;) {
      int running = carry;
      const char* separator = "";
      for (const Digits& number : numbers) {
        const int next = running + number[column];
        problem.reasoning += fmt::format("{}{} + {} = {}", separator, SpacedNumber(running),
                                         number[column], SpacedNumber(next));
        running = next;
        separator = " , ";
      }
      written.push_back(running % 10);
      carry = running / 10;
      problem.reasoning += fmt::format(" ; write {} carry {}\n", running % 10, SpacedNumber(carry));
    }
    for (; carry > 0; carry /= 10) written.push_back(carry % 10);
    std::reverse(written.begin(), written.end());
    problem.answer = SpacedDigits(written);
    problem.reasoning += "sum " + problem.answer;
    return problem;
  }
};

SynthDraft Draw(int level, RandomStream& random) {
  Sum sum;
  for (int i = 0; i < kLevels[level - 1].numbers; ++i) {
    Digits number{random.Between(1, 9)};
    while (static_cast<int>(number.size()) < kLevels[level - 1].digits)
      number.push_back(random.Below(10));
    sum.numbers.push_back(std::move(number));
  }
  Sum sorted = sum;
  std::sort(sorted.numbers.begin(), sorted.numbers.end());
  return {sorted.Question(), [sum = std::move(sum)] { return sum.Solve(); }};
}

}  // namespace

SynthTask AdditionTask() {
  SynthTask task{"addition", "long addition, column by column with carries", 0.8, {}, Draw};
  for (const Level& level : kLevels)
    task.levels.push_back(fmt::format("{} numbers of {} digits", level.numbers, level.digits));
  return task;
}

}  // namespace lacuna
