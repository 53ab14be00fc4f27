// Shapes, and the letters used for them in every comment of the project:
//   B batch, T tokens of a sequence, N rows (= B*T), C model width, H query heads, G KV groups (H/G
//     heads each),
//   Dk, Dv head widths of queries/keys and values, F feed-forward width, E experts, K experts a
//     token, R routed rows (= N*K),
//   Tc compressed blocks, Ts selection blocks, S blocks selected per query, V vocabulary.
#pragma once

#include <fmt/ranges.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/container/inlined_vector.h"

namespace lacuna {

using Shape = absl::InlinedVector<int64_t, 6>;

inline int64_t NumElements(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

// "[2, 3]"
inline std::string ToString(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

}  // namespace lacuna
