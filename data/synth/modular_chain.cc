// An arithmetic chain modulo m, evaluated strictly from left to right.
#include <fmt/format.h>

#include "data/synth/problem.h"

namespace lacuna {
namespace {

struct Level {
  int steps;
  int least_modulus, largest_modulus;
  int largest_operand;
};

constexpr Level kLevels[] = {
    {4, 10, 10, 9},   {8, 7, 10, 9},     {16, 7, 10, 9},    {32, 7, 10, 9},    {64, 7, 10, 9},
    {32, 11, 99, 99}, {100, 11, 99, 99}, {300, 11, 99, 99}, {800, 11, 99, 99}, {1250, 11, 99, 99}};

struct Chain {
  int modulus = 0;
  std::vector<int> operands;  // one more than signs
  std::string signs;

  // From two digits on the result is written before it is reduced, too.
  bool shows_raw() const { return modulus > 10; }

  std::string Question() const {
    std::string text =
        fmt::format("Left to right mod {} : {}", SpacedNumber(modulus), SpacedNumber(operands[0]));
    for (size_t i = 0; i < signs.size(); ++i)
      text += fmt::format(" {} {}", signs[i], SpacedNumber(operands[i + 1]));
    return text;
  }

  SynthProblem Solve() const {
    SynthProblem problem{.user = Question(), .reasoning = "", .answer = ""};
    int value = operands[0];
    for (size_t i = 0; i < signs.size(); ++i) {
      const int operand = operands[i + 1];
      const int raw = signs[i] == '+'   ? value + operand
                      : signs[i] == '-' ? value - operand
                                        : value * operand;
      const int next = (raw % modulus + modulus) % modulus;
      problem.reasoning += fmt::format(
          "{}{} {} {} = {}{}", i == 0 ? "" : " ; ", SpacedNumber(value), signs[i],
          SpacedNumber(operand), shows_raw() ? SpacedNumber(raw) + " = " : "", SpacedNumber(next));
      value = next;
    }
    problem.answer = SpacedNumber(value);
    return problem;
  }
};

SynthDraft Draw(int level, RandomStream& random) {
  const Level& size = kLevels[level - 1];
  Chain chain;
  chain.modulus = random.Between(size.least_modulus, size.largest_modulus);
  chain.operands.push_back(random.Between(0, size.largest_operand));
  for (int i = 0; i < size.steps; ++i) {
    chain.signs += "+-*"[random.Below(3)];
    // Products with 0 and 1 would make the steps before them easy to skip.
    chain.operands.push_back(
        random.Between(chain.signs.back() == '*' ? 2 : 0, size.largest_operand));
  }
  return {chain.Question(), [chain] { return chain.Solve(); }};
}

}  // namespace

SynthTask ModularChainTask() {
  SynthTask task{"modular_chain", "a chain of + - * modulo m, from left to right", 0.8, {}, Draw};
  for (const Level& level : kLevels) {
    const std::string modulus =
        level.least_modulus == level.largest_modulus
            ? fmt::format("{}", level.least_modulus)
            : fmt::format("{} to {}", level.least_modulus, level.largest_modulus);
    task.levels.push_back(fmt::format("{} steps, modulus {}, operands up to {}", level.steps,
                                      modulus, level.largest_operand));
  }
  return task;
}

}  // namespace lacuna
