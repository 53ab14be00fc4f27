// Recall: the facts as a map from names to the digits as they are written.
#include <map>

#include "data/synth/checkers.h"

namespace lacuna::synth {
namespace {

struct Recall {
  std::map<std::string_view, std::string_view> digits;  // of a name
  std::vector<std::string_view> requests;
};

// Takes one word that ends with `end`, and cuts that off; "" where the next word is another.
std::string_view TakeEndingWith(WordReader* words, char end) {
  std::string_view word = words->peek();
  if (word.size() < 2 || word.back() != end) return {};
  words->Next();
  word.remove_suffix(1);
  return word;
}

bool IsNumber(std::string_view word) {
  return !word.empty() && word.find_first_not_of("0123456789") == std::string_view::npos;
}

bool ReadRequests(WordReader* words, Recall* recall) {
  if (!words->TakeAll("What are the secret numbers of")) return false;
  while (true) {
    std::string_view name = TakeEndingWith(words, ',');
    const bool last = name.empty();
    if (last) name = TakeEndingWith(words, '?');
    if (!recall->digits.contains(name)) return false;
    recall->requests.push_back(name);
    if (last) return words->done();
  }
}

std::optional<Recall> Read(std::string_view user) {
  WordReader words(user);
  Recall recall;
  while (words.TakeAll("The secret number of")) {
    const std::string_view name = words.Next();
    if (!words.Take("is")) return std::nullopt;
    const std::string_view number = TakeEndingWith(&words, '.');
    if (!IsNumber(number) || !recall.digits.try_emplace(name, number).second) return std::nullopt;
  }
  if (!ReadRequests(&words, &recall)) return std::nullopt;
  return recall;
}

std::optional<CheckVerdict> Answer(std::string_view user, std::string_view answer) {
  const auto recall = Read(user);
  if (!recall) return std::nullopt;
  return CheckNumber(answer, std::string(recall->digits.at(recall->requests.back())));
}

std::optional<CheckVerdict> Trace(std::string_view user, std::string_view reasoning) {
  const auto recall = Read(user);
  if (!recall) return std::nullopt;
  WordReader words(reasoning, /*lines=*/true);
  for (size_t i = 0; i < recall->requests.size(); ++i) {
    const std::string_view name = recall->requests[i], digits = recall->digits.at(name);
    const std::string where = fmt::format("line {}: {}", i + 1, words.Where());
    if (i > 0 && !words.Take("\n")) return Wrong("{}: must be a new line", where);
    if (!words.TakeAll("The secret number of") || !words.Take(name) || !words.Take("is"))
      return Wrong("{}: must be the number of {}", where, name);
    if (TakeEndingWith(&words, '.') != digits)
      return Wrong("{}: the number of {} is {}.", where, name, digits);
  }
  if (!words.done()) return Wrong("behind the last line: {}", words.Where());
  return Correct();
}

}  // namespace

Checker RecallChecker() {
  return {"recall", "The secret number of", Answer, Trace};
}

}  // namespace lacuna::synth
