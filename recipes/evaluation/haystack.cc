#include "recipes/evaluation/haystack.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/random.h"
#include "core/status.h"

namespace lacuna {
namespace {

constexpr std::array kCities = {"Lisbon", "Nairobi", "Oslo",   "Lima",   "Kyoto",  "Cairo",
                                "Dublin", "Havana",  "Quito",  "Sydney", "Tunis",  "Vienna",
                                "Warsaw", "Zagreb",  "Berlin", "Delhi",  "Geneva", "Helsinki"};

absl::StatusOr<std::vector<int32_t>> Encode(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<int32_t> ids;
  LACUNA_RETURN_IF_ERROR(tokenizer.Encode(text, &ids));
  return ids;
}

void Append(const std::vector<int32_t>& more, std::vector<int32_t>* ids) {
  ids->insert(ids->end(), more.begin(), more.end());
}

}  // namespace

std::vector<int32_t> Haystack::Text(int64_t count, int64_t from) const {
  std::vector<int32_t> ids;
  Fragment at = corpus_.FindToken(from);
  for (int64_t documents = 0; static_cast<int64_t>(ids.size()) < count; ++documents) {
    LACUNA_CHECK(documents <= corpus_.num_documents() || !ids.empty(), "a corpus without text");
    const TokenCorpus::Place place = corpus_.Find(at.document);
    for (int64_t i = at.begin; i < place.length && static_cast<int64_t>(ids.size()) < count; ++i) {
      const int32_t token = place.shard->Token(place.begin + i);
      if (token != corpus_.eod_id()) ids.push_back(token);
    }
    at = {(at.document + 1) % corpus_.num_documents(), 0, 0};
  }
  return ids;
}

absl::StatusOr<NeedleTrial> Haystack::Make(int64_t length, int64_t depth, uint64_t seed,
                                           uint64_t trial) const {
  const auto draw = [&](uint64_t k, int64_t n) {
    return std::min(n - 1,
                    static_cast<int64_t>(PhiloxUniform(seed, trial, k) * static_cast<double>(n)));
  };
  NeedleTrial made;
  made.city = kCities[static_cast<size_t>(draw(0, static_cast<int64_t>(kCities.size())))];
  made.digits = std::to_string(10000 + draw(1, 90000));
  const std::string sentence = fmt::format("\nThe secret number of {} is", made.city);
  LACUNA_ASSIGN_OR_RETURN(const std::vector<int32_t> question, Encode(tokenizer_, sentence));
  LACUNA_ASSIGN_OR_RETURN(const std::vector<int32_t> number,
                          Encode(tokenizer_, fmt::format(" {}", made.digits)));
  LACUNA_ASSIGN_OR_RETURN(const std::vector<int32_t> end, Encode(tokenizer_, ".\n"));
  const auto around =
      length - static_cast<int64_t>(2 * question.size() + number.size() + end.size());
  if (around < 1)
    return ConfigError("--lengths {}: needle and question alone have {} tokens", length,
                       length - around);
  const std::vector<int32_t> text = Text(around, draw(2, corpus_.num_tokens()));
  const int64_t before = around * depth / 100;
  made.ids.assign(text.begin(), text.begin() + before);
  Append(question, &made.ids);
  made.digits_begin = static_cast<int64_t>(made.ids.size());
  Append(number, &made.ids);
  made.digits_end = static_cast<int64_t>(made.ids.size());
  Append(end, &made.ids);
  made.ids.insert(made.ids.end(), text.begin() + before, text.end());
  Append(question, &made.ids);
  made.answer_tokens = static_cast<int64_t>(number.size());
  return made;
}

}  // namespace lacuna
