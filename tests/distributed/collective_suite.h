// What every backend's collectives must do, written once: each case runs on all ranks of a
// communicator with tensors of one device and computes what every rank must see.
#pragma once

#include <ostream>
#include <vector>

#include "distributed/communicator.h"

namespace lacuna::test {

struct CollectiveBackend {
  Communicator& comm;
  Device device = kCpu;
  // Sums are added in rank order in f64; elsewhere only values that are exact in any order are
  // summed.
  bool rank_order = true;
};

struct CollectiveCase {
  const char* name;
  void (*run)(const CollectiveBackend&);

  friend void PrintTo(const CollectiveCase& one, std::ostream* os) { *os << one.name; }
};

const std::vector<CollectiveCase>& CollectiveCases();
// For INSTANTIATE_TEST_SUITE_P.
template <class Info>
std::string NameOfCase(const Info& info) {
  return info.param.name;
}

}  // namespace lacuna::test
