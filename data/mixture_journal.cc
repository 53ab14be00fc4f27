#include "data/mixture_journal.h"

#include <cmath>

#include "core/error.h"
#include "core/status.h"

namespace lacuna {
namespace {

std::vector<double> WeightsOf(const SourceWeights& sources) {
  std::vector<double> weights;
  for (const auto& [name, weight] : sources) weights.push_back(weight);
  return weights;
}

// Share of the samples of each source.
std::map<std::string, double> SharesOf(const SourceWeights& sources) {
  double sum = 0;
  for (const auto& [name, weight] : sources) sum += weight;
  std::map<std::string, double> shares;
  for (const auto& [name, weight] : sources) shares[name] = weight / sum;
  return shares;
}

std::string Describe(const SourceWeights& sources) {
  std::string text;
  for (const auto& [name, share] : SharesOf(sources))
    text += fmt::format("{}{} {:.4g} %", text.empty() ? "" : ", ", name, 100 * share);
  return text;
}

bool SameShares(const SourceWeights& a, const SourceWeights& b) {
  const auto first = SharesOf(a), second = SharesOf(b);
  if (first.size() != second.size()) return false;
  for (const auto& [name, share] : first) {
    const auto other = second.find(name);
    if (other == second.end() || std::abs(other->second - share) > 1e-12) return false;
  }
  return true;
}

// Empty where the JSON is not a list of named weights.
SourceWeights ParseWeights(const nlohmann::json& json) {
  SourceWeights weights;
  if (!json.is_array()) return {};
  for (const auto& pair : json) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_number())
      return {};
    const double weight = pair[1];
    if (!(std::isfinite(weight) && weight > 0)) return {};
    weights.emplace_back(pair[0], weight);
  }
  return weights;
}

}  // namespace

void MixtureJournal::Append(int64_t from, const SourceWeights& weights) {
  std::map<std::string, int64_t> counts;
  if (!entries_.empty()) counts = Counts(from);
  entries_.push_back({from, weights, Mixture(WeightsOf(weights)), std::move(counts)});
}

absl::StatusOr<MixtureJournal> MixtureJournal::FromJson(const nlohmann::json& json,
                                                        const std::string& where) {
  MixtureJournal journal;
  const auto wrong = [&](size_t entry) {
    return DataError(
        "{}: entry {} of the mixture journal: must be {{\"from\": sample, \"weights\": [[name, "
        "weight], ...]}}, the first from 0, each from behind the one before",
        where, entry);
  };
  if (!json.is_array() || json.empty()) return wrong(0);
  for (const auto& entry : json) {
    const size_t i = journal.entries_.size();
    if (!entry.is_object() || !entry.contains("from") || !entry["from"].is_number_integer() ||
        !entry.contains("weights"))
      return wrong(i);
    const int64_t from = entry["from"];
    const SourceWeights weights = ParseWeights(entry["weights"]);
    const bool in_order = i == 0 ? from == 0 : from > journal.entries_.back().from;
    if (weights.empty() || !in_order) return wrong(i);
    journal.Append(from, weights);
  }
  return journal;
}

nlohmann::json MixtureJournal::ToJson() const {
  nlohmann::json json = nlohmann::json::array();
  for (const Entry& entry : entries_) {
    nlohmann::json weights = nlohmann::json::array();
    for (const auto& [name, weight] : entry.weights) weights.push_back({name, weight});
    json.push_back({{"from", entry.from}, {"weights", weights}});
  }
  return json;
}

std::string MixtureJournal::Edit(int64_t from, const SourceWeights& weights) {
  const Entry& last = entries_.back();
  LACUNA_CHECK(from >= last.from, "an edit of the mix at sample {}, the last one is at {}", from,
               last.from);
  if (SameShares(last.weights, weights)) return "";
  const std::string line = fmt::format("from sample {} on the mix is {}; before, {}", from,
                                       Describe(weights), Describe(last.weights));
  // Weights that no sample was dealt by leave no trace.
  if (from == last.from) {
    entries_.pop_back();
    if (!entries_.empty() && SameShares(entries_.back().weights, weights)) return line;
  }
  Append(from, weights);
  return line;
}

const MixtureJournal::Entry& MixtureJournal::EntryOf(int64_t k) const {
  LACUNA_CHECK(k >= 0, "sample {}", k);
  size_t i = entries_.size() - 1;
  while (entries_[i].from > k) --i;
  return entries_[i];
}

MixtureJournal::Pick MixtureJournal::At(int64_t k) const {
  const Entry& entry = EntryOf(k);
  const Mixture::Pick pick = entry.mixture.At(k - entry.from);
  const std::string& source = entry.weights[static_cast<size_t>(pick.source)].first;
  const auto before = entry.counts.find(source);
  return {source, pick.number + (before == entry.counts.end() ? 0 : before->second)};
}

std::map<std::string, int64_t> MixtureJournal::Counts(int64_t k) const {
  const Entry& entry = EntryOf(k);
  std::map<std::string, int64_t> counts = entry.counts;
  const std::vector<int64_t> dealt = entry.mixture.Counts(k - entry.from);
  for (size_t s = 0; s < dealt.size(); ++s) counts[entry.weights[s].first] += dealt[s];
  return counts;
}

}  // namespace lacuna
