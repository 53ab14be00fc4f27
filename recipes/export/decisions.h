// What a forward pass chose, layer by layer, and how two of them agree.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lacuna {

// Of one sequence of T tokens.
struct LayerDecisions {
  std::vector<int32_t> blocks;   // [T, G, n] ascending, then -1; empty without sparse attention
  std::vector<int32_t> experts;  // [T, K] in any order; empty in a dense layer
};

// Row `row` of `rows` equally long ones. How long is told by the list itself: the folder under test
// may say another number of places than the one that chose.
inline std::vector<int32_t> RowOfList(const std::vector<int32_t>& list, size_t row, size_t rows) {
  const size_t places = list.size() / rows;
  const auto first = list.begin() + static_cast<int64_t>(row * places);
  return {first, first + static_cast<int64_t>(places)};
}

// Sets that two implementations chose. A difference is a tie where the scores of what was taken and
// what was left are as close as rounding explains.
struct DecisionAgreement {
  int64_t compared = 0;
  int64_t equal = 0;
  int64_t ties = 0;
  int64_t unexplained = 0;
  std::string example;  // of what is unexplained, one line

  double share() const {
    return compared == 0 ? 1.0 : static_cast<double>(equal) / static_cast<double>(compared);
  }
};

}  // namespace lacuna
