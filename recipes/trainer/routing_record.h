// Which experts the rows of a step went to, to be compared between one rank and many.
#pragma once

#include <cstdint>
#include <vector>

#include "distributed/communicator.h"
#include "moe/moe_layer.h"

namespace lacuna {

struct RoutingAgreement {
  int64_t rows = 0;       // a token in a layer
  int64_t alike = 0;      // with the same experts, in any order
  int64_t near_ties = 0;  // rows of the second record whose choice rounding may change
  double share() const {
    return rows == 0 ? 1.0 : static_cast<double>(alike) / static_cast<double>(rows);
  }
};

// Records what the layers choose while it lives.
class RoutingRecord {
 public:
  explicit RoutingRecord(std::vector<MoeLayer*> layers);
  ~RoutingRecord();
  RoutingRecord(const RoutingRecord&) = delete;
  RoutingRecord& operator=(const RoutingRecord&) = delete;

  // Of all ranks, sample by sample: [samples, layers, rows, K] ascending in K, then the number of
  // near ties. A micro-batch is one sample, which `context` ranks share, and sample s was micro-batch
  // s / groups of group s % groups; as doubles, which hold them exactly.
  std::vector<double> OfAllRanks(Communicator& comm, int context = 1) const;

 private:
  std::vector<MoeLayer*> layers_;
  std::vector<std::vector<double>> choices_;  // a call
  int64_t experts_per_token_ = 1;
  double near_ties_ = 0;
};

// Of two results of OfAllRanks. Different sizes agree nowhere.
RoutingAgreement CompareRouting(const std::vector<double>& a, const std::vector<double>& b,
                                int64_t experts_per_token);

}  // namespace lacuna
