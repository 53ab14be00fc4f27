// Hash maps whose keys are byte strings, searched with views.
#pragma once

#include <xxhash.h>

#include <functional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"

namespace lacuna {

struct BytesHash {
  using is_transparent = void;
  size_t operator()(std::string_view bytes) const {
    return XXH3_64bits(bytes.data(), bytes.size());
  }
};

template <class V>
using BytesMap = absl::flat_hash_map<std::string, V, BytesHash, std::equal_to<>>;
// The bytes must outlive the map.
template <class V>
using BytesViewMap = absl::flat_hash_map<std::string_view, V, BytesHash, std::equal_to<>>;

}  // namespace lacuna
