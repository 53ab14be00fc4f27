// Documents of a packed batch sorted by length, for kernels that work on documents of like length
// together. POD only.
#pragma once

#include <cstdint>
#include <limits>

namespace lacuna {

// A document of n tokens is of the first class whose bound is n or more; one of no tokens of none.
// Factor 4: few classes, and a document is never less than a quarter of its class's bound (but in
// the first).
inline constexpr int kLengthClasses = 5;
inline constexpr int32_t kLengthClassBounds[kLengthClasses] = {512, 2048, 8192, 32768,
                                                               std::numeric_limits<int32_t>::max()};

inline constexpr int LengthClassOf(int64_t tokens) {
  int c = 0;
  while (tokens > kLengthClassBounds[c]) ++c;
  return c;
}

// How many documents each class has.
struct LengthClassCounts {
  int32_t of_class[kLengthClasses] = {};
};

}  // namespace lacuna
