// Long multiplication: for every digit of the second number, from the right, a row (the first number
// times this digit) and, from the second row on, the total so far. Row j is added from column j on;
// the columns before it stay as they are.
#include <fmt/format.h>

#include <algorithm>

#include "data/synth/problem.h"

namespace lacuna {
namespace {

struct Level {
  int first, second;  // digits
};

constexpr Level kLevels[] = {{2, 1}, {2, 2},   {3, 2},   {4, 4},   {6, 6},
                             {9, 9}, {13, 13}, {18, 18}, {25, 25}, {32, 32}};

using Digits = std::vector<int>;  // the least significant one first

std::string Spaced(Digits digits) {
  std::reverse(digits.begin(), digits.end());
  return SpacedDigits(digits);
}

struct Product {
  Digits first, second;

  std::string Question() const {
    return fmt::format("Multiply : {} * {}", Spaced(first), Spaced(second));
  }

  Digits Row(int factor, std::string* text) const {
    Digits row;
    int carry = 0;
    for (const int digit : first) {
      const int value = factor * digit + carry;
      *text += fmt::format("{}{} * {} + {} = {}", row.empty() ? "" : " , ", factor, digit, carry,
                           SpacedNumber(value));
      row.push_back(value % 10);
      carry = value / 10;
    }
    if (carry > 0) row.push_back(carry);
    *text += fmt::format(" ; row {}\n", Spaced(row));
    return row;
  }

  static void AddRow(const Digits& row, size_t column, Digits* total, std::string* text) {
    const size_t begin = column;
    int carry = 0;
    for (; column < std::max(total->size(), begin + row.size()); ++column) {
      if (column == total->size()) total->push_back(0);
      const int above = (*total)[column],
                digit = column - begin < row.size() ? row[column - begin] : 0;
      const int value = above + digit + carry;
      *text += fmt::format("{}{} + {} + {} = {}", column == begin ? "" : " , ", above, digit, carry,
                           SpacedNumber(value));
      (*total)[column] = value % 10;
      carry = value / 10;
    }
    if (carry > 0) total->push_back(carry);
    *text += fmt::format(" ; total {}\n", Spaced(*total));
  }

  SynthProblem Solve() const {
    SynthProblem problem{.user = Question(), .reasoning = "", .answer = ""};
    Digits total = Row(second[0], &problem.reasoning);
    for (size_t j = 1; j < second.size(); ++j)
      AddRow(Row(second[j], &problem.reasoning), j, &total, &problem.reasoning);
    problem.answer = Spaced(total);
    problem.reasoning += "product " + problem.answer;
    return problem;
  }
};

Digits DrawNumber(int digits, RandomStream& random) {
  Digits number;
  while (static_cast<int>(number.size()) + 1 < digits) number.push_back(random.Below(10));
  number.push_back(random.Between(1, 9));
  return number;
}

SynthDraft Draw(int level, RandomStream& random) {
  const Level& size = kLevels[level - 1];
  Product product;
  product.first = DrawNumber(size.first, random);
  product.second = DrawNumber(size.second, random);
  Product sorted = product;
  if (sorted.second < sorted.first && size.first == size.second)
    std::swap(sorted.first, sorted.second);
  return {sorted.Question(), [product = std::move(product)] { return product.Solve(); }};
}

}  // namespace

SynthTask MultiplicationTask() {
  SynthTask task{"multiplication", "long multiplication with a row for every digit", 0.8, {}, Draw};
  for (const Level& level : kLevels)
    task.levels.push_back(fmt::format("{} by {} digits", level.first, level.second));
  return task;
}

}  // namespace lacuna
