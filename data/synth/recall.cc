// Retrieval from a long context: facts in random order, then some of them asked for. The sentences
// are those of `lacuna eval needle`'s haystacks.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "data/synth/problem.h"

namespace lacuna {
namespace {

constexpr int kLevelFacts[] = {4, 8, 16, 32, 64, 128, 256, 512, 1024, 2304};

constexpr int Requests(int facts) {
  return std::min(facts, 128);  // a question has no loss, answers have: many of these
}

constexpr std::array kCities = {
    "Accra",    "Algiers",   "Ankara",  "Athens",    "Baghdad", "Bamako",   "Bangkok",   "Beirut",
    "Belgrade", "Berlin",    "Bern",    "Bogota",    "Boston",  "Brussels", "Budapest",  "Cairo",
    "Canberra", "Caracas",   "Chicago", "Dakar",     "Dallas",  "Delhi",    "Denver",    "Dhaka",
    "Dublin",   "Florence",  "Geneva",  "Glasgow",   "Hamburg", "Hanoi",    "Havana",    "Helsinki",
    "Istanbul", "Jakarta",   "Kabul",   "Kampala",   "Karachi", "Khartoum", "Kyoto",     "Lagos",
    "Lima",     "Lisbon",    "London",  "Lusaka",    "Madrid",  "Manila",   "Melbourne", "Milan",
    "Montreal", "Moscow",    "Mumbai",  "Munich",    "Nairobi", "Naples",   "Osaka",     "Oslo",
    "Ottawa",   "Paris",     "Prague",  "Quito",     "Riga",    "Rome",     "Santiago",  "Seoul",
    "Shanghai", "Singapore", "Sofia",   "Stockholm", "Sydney",  "Tallinn",  "Tehran",    "Tokyo",
    "Toronto",  "Tripoli",   "Tunis",   "Vancouver", "Venice",  "Vienna",   "Warsaw",    "Zagreb"};

struct Fact {
  std::string name;
  int number = 0;  // five digits

  std::string Sentence() const {
    return fmt::format("The secret number of {} is {}.", name, number);
  }
};

struct Recall {
  std::vector<Fact> facts;
  std::vector<size_t> requests;  // of facts

  std::string Question() const {
    std::string text;
    for (const Fact& fact : facts) text += fact.Sentence() + "\n";
    text += "What are the secret numbers of";
    for (size_t i = 0; i < requests.size(); ++i)
      text += fmt::format("{} {}", i == 0 ? "" : ",", facts[requests[i]].name);
    return text + "?";
  }

  // The facts sorted; the last request is the answer, so their order stays.
  std::string Canonical() const {
    std::vector<std::string> lines;
    for (const Fact& fact : facts) lines.push_back(fact.Sentence());
    std::sort(lines.begin(), lines.end());
    for (const size_t request : requests) lines.push_back(facts[request].name);
    return fmt::format("{}", fmt::join(lines, "\n"));
  }

  SynthProblem Solve() const {
    SynthProblem problem{.user = Question(), .reasoning = "", .answer = ""};
    for (const size_t request : requests) {
      if (!problem.reasoning.empty()) problem.reasoning += '\n';
      problem.reasoning += facts[request].Sentence();
    }
    problem.answer = std::to_string(facts[requests.back()].number);
    return problem;
  }
};

// Two or three syllables: "Kalu", "Vorita".
std::string MadeName(RandomStream& random) {
  constexpr std::string_view kConsonants = "bdfgklmnprstvz", kVowels = "aeiou";
  std::string name;
  for (int syllables = random.Between(2, 3); syllables > 0; --syllables) {
    name += kConsonants[static_cast<size_t>(random.Below(kConsonants.size()))];
    name += kVowels[static_cast<size_t>(random.Below(kVowels.size()))];
  }
  name[0] = static_cast<char>(name[0] - 'a' + 'A');
  return name;
}

SynthDraft Draw(int level, RandomStream& random) {
  const auto count = static_cast<size_t>(kLevelFacts[level - 1]);
  Recall recall;
  std::set<std::string> names;
  // Half of them cities, as long as there are any left.
  while (recall.facts.size() < count) {
    std::string name = random.Below(2) == 0
                           ? kCities[static_cast<size_t>(random.Below(kCities.size()))]
                           : MadeName(random);
    if (names.insert(name).second)
      recall.facts.push_back({std::move(name), random.Between(10000, 99999)});
  }
  // Cities come early so far.
  random.Shuffle(&recall.facts);
  std::vector<size_t> order(count);
  for (size_t i = 0; i < count; ++i) order[i] = i;
  random.Shuffle(&order);
  order.resize(static_cast<size_t>(Requests(kLevelFacts[level - 1])));
  recall.requests = std::move(order);
  std::string canonical = recall.Canonical();
  return {std::move(canonical), [recall = std::move(recall)] { return recall.Solve(); }};
}

}  // namespace

SynthTask RecallTask() {
  SynthTask task{"recall", "numbers of names, found again in a long list of them", 0.47, {}, Draw};
  for (const int facts : kLevelFacts)
    task.levels.push_back(fmt::format("{} facts, {} of them asked for", facts, Requests(facts)));
  return task;
}

}  // namespace lacuna
