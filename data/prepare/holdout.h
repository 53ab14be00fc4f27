// Documents kept out of training.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lacuna {

// Those whose file lies below `prefix` (relative to its input folder), or else a `fraction` of all
// documents, chosen by a hash of their text (of token ids: what they decode to): equal documents stay together, and a longer input keeps
// the choice. They go to shards <name>_*.h5.
struct Holdout {
  std::string name;
  std::string prefix;
  double fraction = 0;

  // "validation=0.01" or "xfs=fs/xfs". A config error for anything else.
  static absl::StatusOr<Holdout> Parse(const std::string& text);
  // Whether it is one of files, and this one lies below its prefix.
  bool HoldsFile(std::string_view file_name) const;
};

// The first hold-out that takes the document, as 1 + its number; 0: training.
size_t SplitOf(std::string_view file_name, std::string_view text,
               const std::vector<Holdout>& holdouts);

}  // namespace lacuna
