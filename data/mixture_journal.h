// The mixtures of a run, edits included: which weights held from which sample on.
//
// Sample k is the next sample of its source that no earlier one was, whatever the weights were
// before: an edited mix neither repeats nor loses samples. Sources are told by name; one that is
// taken out and comes back goes on where it stopped.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "data/mixture.h"

namespace lacuna {

// Name and weight of each source, in the order of the recipe.
using SourceWeights = std::vector<std::pair<std::string, double>>;

class MixtureJournal {
 public:
  // These weights from sample 0 on.
  explicit MixtureJournal(const SourceWeights& weights) { Append(0, weights); }

  // [{"from": 0, "weights": [["text", 0.7], ["code", 0.3]]}, ...]. A data error, with `where` in
  // front, for anything else.
  static absl::StatusOr<MixtureJournal> FromJson(const nlohmann::json& json,
                                                 const std::string& where);
  nlohmann::json ToJson() const;

  // From sample `from` on, at or behind the last edit, the mix is this one. -> a line that says
  // what changed; empty, and nothing done, where the shares are as they were.
  std::string Edit(int64_t from, const SourceWeights& weights);

  struct Pick {
    std::string source;
    int64_t number = 0;  // samples of the source before this one
  };
  Pick At(int64_t k) const;
  // Samples of each source, past ones included, among the first k.
  std::map<std::string, int64_t> Counts(int64_t k) const;
  size_t num_edits() const { return entries_.size() - 1; }

 private:
  struct Entry {
    int64_t from = 0;
    SourceWeights weights;
    Mixture mixture;
    std::map<std::string, int64_t> counts;  // of every source before `from`
  };
  MixtureJournal() = default;
  void Append(int64_t from, const SourceWeights& weights);
  const Entry& EntryOf(int64_t k) const;

  std::vector<Entry> entries_;
};

}  // namespace lacuna
