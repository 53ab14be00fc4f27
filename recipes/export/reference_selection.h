// Which selection blocks a query of an exported model reads (arXiv 2502.11089, section 3.3.2), in
// plain f64.
#pragma once

#include <mutex>
#include <vector>

#include "recipes/export/decisions.h"
#include "recipes/export/reference_config.h"
#include "recipes/export/reference_weights.h"

namespace lacuna {

// Lists that another implementation chose, and how far apart scores may be to count as tied.
struct OtherBlocks {
  const std::vector<int32_t>* lists = nullptr;  // [T, G, n], see LayerDecisions; null: none
  int64_t tokens = 0;                           // T
  double tie = 0;                               // of one head's probability
  DecisionAgreement* agreement = nullptr;
};

// Of query t of a group, ascending. p: its heads' summed probabilities of the compressed blocks it
// sees. Where `other` has another list that is tied with the one found here, that is returned;
// `mutex` guards other.agreement.
std::vector<int64_t> ReferenceBlocks(const ReferenceConfig& config, int64_t t, int64_t group,
                                     const Doubles& p, const OtherBlocks& other, std::mutex* mutex);

}  // namespace lacuna
