// Long addition and multiplication: results in limbs, columns digit by digit.
#include <algorithm>

#include "data/synth/checkers.h"
#include "data/synth/decimal.h"

namespace lacuna::synth {
namespace {

// The numbers of "<begins> : 1 2 + 3 4 ...".
std::optional<std::vector<std::string>> ReadNumbers(std::string_view user, std::string_view begins,
                                                    std::string_view sign) {
  WordReader words(user);
  std::vector<std::string> numbers;
  if (!words.TakeAll(begins) || !words.Take(":")) return std::nullopt;
  do {
    numbers.push_back(words.TakeDigits());
    if (numbers.back().empty()) return std::nullopt;
  } while (words.Take(sign));
  if (!words.done()) return std::nullopt;
  return numbers;
}

// Digit of the given column, 0 being the last one; 0 where the number is shorter.
int64_t DigitAt(const std::string& number, size_t column) {
  return column < number.size() ? number[number.size() - 1 - column] - '0' : 0;
}

// Takes "a + b = c" or "a * b + c = d", all as they must be; `value` is the result.
CheckVerdict TakeEquation(WordReader* words, std::initializer_list<int64_t> numbers,
                          const char* signs, int64_t value) {
  const std::string where = words->Where();
  const char* sign = signs;
  std::string text;
  bool right = true;
  for (const int64_t number : numbers) {
    right = right && words->TakeNumber() == number;
    text += fmt::format("{} ", number);
    if (*sign == 0) continue;
    right = right && words->Next() == std::string_view(sign, 1);
    text += fmt::format("{} ", *sign++);
  }
  right = right && words->Take("=") && words->TakeNumber() == value;
  if (right) return Correct();
  return Wrong("{}: must be \"{}= {}\"", where, text, value);
}

std::string SumOf(const std::vector<std::string>& numbers) {
  Decimal sum;
  for (const std::string& number : numbers) sum = sum + Decimal(number);
  return sum.ToString();
}

std::optional<CheckVerdict> AdditionAnswer(std::string_view user, std::string_view answer) {
  const auto numbers = ReadNumbers(user, "Add", "+");
  if (!numbers) return std::nullopt;
  return CheckNumber(answer, SumOf(*numbers));
}

std::optional<CheckVerdict> AdditionTrace(std::string_view user, std::string_view reasoning) {
  const auto numbers = ReadNumbers(user, "Add", "+");
  if (!numbers) return std::nullopt;
  const std::string sum = SumOf(*numbers);
  size_t columns = 0;
  for (const std::string& number : *numbers) columns = std::max(columns, number.size());
  WordReader words(reasoning, /*lines=*/true);
  int64_t running = 0;
  for (size_t column = 0; column < columns; ++column) {
    for (size_t i = 0; i < numbers->size(); ++i) {
      if (i > 0 && !words.Take(",")) return Wrong("no \" , \" before {}", words.Where());
      const int64_t digit = DigitAt((*numbers)[i], column);
      CheckVerdict verdict = TakeEquation(&words, {running, digit}, "+", running + digit);
      if (!verdict.correct) return verdict;
      running += digit;
    }
    const std::string where = words.Where();
    // The digit of the true sum, which the running value must agree with.
    const int64_t digit = DigitAt(sum, column), carry = (running - digit) / 10;
    if (!words.TakeAll("; write") || words.TakeNumber() != digit || !words.Take("carry") ||
        words.TakeNumber() != carry || !words.Take("\n"))
      return Wrong("{}: must be \"; write {} carry {}\"", where, digit, carry);
    running = carry;
  }
  const std::string where = words.Where();
  if (!words.Take("sum") || words.TakeDigits() != sum || !words.done())
    return Wrong("{}: the end must be \"sum {}\"", where, sum);
  return Correct();
}

std::optional<std::vector<std::string>> ReadFactors(std::string_view user) {
  auto numbers = ReadNumbers(user, "Multiply", "*");
  if (numbers && numbers->size() != 2) return std::nullopt;
  return numbers;
}

std::optional<CheckVerdict> MultiplicationAnswer(std::string_view user, std::string_view answer) {
  const auto numbers = ReadFactors(user);
  if (!numbers) return std::nullopt;
  return CheckNumber(answer, (Decimal((*numbers)[0]) * Decimal((*numbers)[1])).ToString());
}

// Takes the end of a line: "; <word> <value>", the value with leading zeros up to `width` digits.
CheckVerdict TakeResult(WordReader* words, std::string_view word, const Decimal& value,
                        size_t width, std::string* digits) {
  const std::string where = words->Where();
  *digits = value.ToString();
  if (digits->size() < width) digits->insert(0, width - digits->size(), '0');
  if (words->Take(";") && words->Take(word) && words->TakeDigits() == *digits && words->Take("\n"))
    return Correct();
  return Wrong("{}: must be \"; {} {}\"", where, word, *digits);
}

// Takes the columns of a row: `factor` times every digit of `number`.
CheckVerdict TakeRow(WordReader* words, const std::string& number, int64_t factor,
                     std::string* row) {
  int64_t carry = 0;
  for (size_t column = 0; column < number.size(); ++column) {
    if (column > 0 && !words->Take(",")) return Wrong("no \" , \" before {}", words->Where());
    const int64_t digit = DigitAt(number, column), value = factor * digit + carry;
    CheckVerdict verdict = TakeEquation(words, {factor, digit, carry}, "*+", value);
    if (!verdict.correct) return verdict;
    carry = value / 10;
  }
  return TakeResult(words, "row", Decimal(std::to_string(factor)) * Decimal(number), number.size(),
                    row);
}

// Takes the sum of `total` and a row from column `first` on; `value` is the total then.
CheckVerdict TakeTotal(WordReader* words, const std::string& row, size_t first,
                       const Decimal& value, std::string* total) {
  int64_t carry = 0;
  for (size_t column = first; column < std::max(total->size(), first + row.size()); ++column) {
    if (column > first && !words->Take(",")) return Wrong("no \" , \" before {}", words->Where());
    const int64_t above = DigitAt(*total, column), digit = DigitAt(row, column - first);
    CheckVerdict verdict = TakeEquation(words, {above, digit, carry}, "++", above + digit + carry);
    if (!verdict.correct) return verdict;
    carry = (above + digit + carry) / 10;
  }
  return TakeResult(words, "total", value, std::max(total->size(), first + row.size()), total);
}

std::optional<CheckVerdict> MultiplicationTrace(std::string_view user, std::string_view reasoning) {
  const auto numbers = ReadFactors(user);
  if (!numbers) return std::nullopt;
  const std::string &first = (*numbers)[0], &second = (*numbers)[1];
  WordReader words(reasoning, /*lines=*/true);
  std::string total;
  for (size_t j = 0; j < second.size(); ++j) {
    std::string row;
    CheckVerdict verdict = TakeRow(&words, first, DigitAt(second, j), &row);
    if (!verdict.correct) return verdict;
    if (j == 0) {
      total = row;
      continue;
    }
    const Decimal value = Decimal(first) * Decimal(second.substr(second.size() - 1 - j));
    verdict = TakeTotal(&words, row, j, value, &total);
    if (!verdict.correct) return verdict;
  }
  const std::string where = words.Where(), product = (Decimal(first) * Decimal(second)).ToString();
  if (!words.Take("product") || words.TakeDigits() != product || !words.done())
    return Wrong("{}: the end must be \"product {}\"", where, product);
  return Correct();
}

}  // namespace

Checker AdditionChecker() {
  return {"addition", "Add :", AdditionAnswer, AdditionTrace};
}

Checker MultiplicationChecker() {
  return {"multiplication", "Multiply :", MultiplicationAnswer, MultiplicationTrace};
}

}  // namespace lacuna::synth
