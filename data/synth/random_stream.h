// Random whole numbers one after the other from one Philox stream: the same on every machine.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/random.h"

namespace lacuna {

class RandomStream {
 public:
  RandomStream(uint64_t key, uint64_t stream) : key_(key), stream_(stream) {}

  // Uniform in [0, n), n > 0 (to within n / 2^32).
  int Below(int n) {
    const uint64_t word = Philox(key_, next_++, stream_).word[0];
    return static_cast<int>((word * static_cast<uint64_t>(n)) >> 32);
  }
  // Uniform in [low, high].
  int Between(int low, int high) { return low + Below(high - low + 1); }

  template <class T>
  void Shuffle(std::vector<T>* values) {
    for (size_t i = values->size(); i > 1; --i)
      std::swap((*values)[i - 1], (*values)[static_cast<size_t>(Below(static_cast<int>(i)))]);
  }

 private:
  uint64_t key_, stream_;
  uint64_t next_ = 0;
};

}  // namespace lacuna
