// Modular chains: the answer by composing x -> a x + b from the last operation to the first, the
// steps one by one.
#include "data/synth/checkers.h"

namespace lacuna::synth {
namespace {

struct Chain {
  int64_t modulus = 0;
  int64_t first = 0;
  std::vector<std::pair<char, int64_t>> operations;
};

std::optional<Chain> Read(std::string_view user) {
  WordReader words(user);
  Chain chain;
  if (!words.TakeAll("Left to right mod")) return std::nullopt;
  const auto modulus = words.TakeNumber();
  if (!modulus || *modulus < 2 || !words.Take(":")) return std::nullopt;
  const auto first = words.TakeNumber();
  if (!first) return std::nullopt;
  chain.modulus = *modulus;
  chain.first = *first;
  while (!words.done()) {
    const std::string_view sign = words.Next();
    const auto operand = words.TakeNumber();
    if ((sign != "+" && sign != "-" && sign != "*") || !operand) return std::nullopt;
    chain.operations.emplace_back(sign[0], *operand);
  }
  return chain;
}

int64_t Reduce(__int128 value, int64_t modulus) {
  const auto rest = static_cast<int64_t>(value % modulus);
  return rest < 0 ? rest + modulus : rest;
}

int64_t Solve(const Chain& chain) {
  // What follows operation i maps its result x to a x + b.
  __int128 a = 1, b = 0;
  for (size_t i = chain.operations.size(); i-- > 0;) {
    const auto [sign, operand] = chain.operations[i];
    if (sign == '+') b += a * operand;
    if (sign == '-') b -= a * operand;
    if (sign == '*') a *= operand;
    a = Reduce(a, chain.modulus);
    b = Reduce(b, chain.modulus);
  }
  return Reduce(a * chain.first + b, chain.modulus);
}

std::optional<CheckVerdict> Answer(std::string_view user, std::string_view answer) {
  const auto chain = Read(user);
  if (!chain) return std::nullopt;
  return CheckNumber(answer, std::to_string(Solve(*chain)));
}

__int128 Apply(__int128 left, char sign, int64_t right) {
  return sign == '+' ? left + right : sign == '-' ? left - right : left * right;
}

// "x sign y = [raw =] result" with the x, sign and y that must stand there; `value` is x, then the
// result.
CheckVerdict CheckStep(const Chain& chain, size_t step, WordReader* words, int64_t* value) {
  const auto [sign, operand] = chain.operations[step];
  const std::string where = fmt::format("step {}: {}", step + 1, words->Where());
  if (words->TakeNumber() != *value) return Wrong("{}: the left side must be {}", where, *value);
  if (words->Next() != std::string_view(&sign, 1) || words->TakeNumber() != operand)
    return Wrong("{}: the operation must be {} {}", where, sign, operand);
  const __int128 raw = Apply(*value, sign, operand);
  const int64_t reduced = Reduce(raw, chain.modulus);
  if (!words->Take("=")) return Wrong("{}: has no =", where);
  auto result = words->TakeNumber();
  if (words->Take("=")) {
    if (result != static_cast<int64_t>(raw))
      return Wrong("{}: {} {} {} is {}", where, *value, sign, operand, static_cast<int64_t>(raw));
    result = words->TakeNumber();
  }
  if (result != reduced) return Wrong("{}: the result must be {}", where, reduced);
  *value = reduced;
  return Correct();
}

std::optional<CheckVerdict> Trace(std::string_view user, std::string_view reasoning) {
  const auto chain = Read(user);
  if (!chain) return std::nullopt;
  WordReader words(reasoning);
  int64_t value = chain->first;
  for (size_t step = 0; step < chain->operations.size(); ++step) {
    if (step > 0 && !words.Take(";"))
      return Wrong("step {}: no \" ; \" before {}", step + 1, words.Where());
    CheckVerdict verdict = CheckStep(*chain, step, &words, &value);
    if (!verdict.correct) return verdict;
  }
  if (!words.done()) return Wrong("behind the last step: {}", words.Where());
  return Correct();
}

}  // namespace

Checker ModularChainChecker() {
  return {"modular_chain", "Left to right mod", Answer, Trace};
}

}  // namespace lacuna::synth
