// Counter-based random numbers (Philox4x32-10; Salmon et al., SC 2011): a value is a pure function
// of (key, counter), the same bits on every backend, thread count and rank. CUDA sources include
// this header.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace lacuna {

struct PhiloxBlock {
  uint32_t word[4];
};

// Ten rounds over the 128-bit counter (counter_low, counter_high) with a 64-bit key.
LACUNA_HOST_DEVICE inline PhiloxBlock Philox(uint64_t key, uint64_t counter_low,
                                             uint64_t counter_high) {
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The k-th value of stream (key, stream) in [0, 1), 53 random bits.
LACUNA_HOST_DEVICE inline double PhiloxUniform(uint64_t key, uint64_t stream, uint64_t k) {
  const PhiloxBlock block = Philox(key, k, stream);
  const uint64_t bits = (static_cast<uint64_t>(block.word[0]) << 32) | block.word[1];
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

// The k-th value of stream (key, stream), approximately standard normal: the sum of twelve uniforms
// less six (Irwin-Hall: mean 0, variance 1, |value| < 6). Integer sums and one exact scaling, so
// every backend gives the same bits; libm's log and cos would not.
LACUNA_HOST_DEVICE inline double PhiloxNormal(uint64_t key, uint64_t stream, uint64_t k) {
  int64_t sum = 0;
  for (uint64_t part = 0; part < 3; ++part) {
    const PhiloxBlock block = Philox(key, 3 * k + part, stream);
    for (int i = 0; i < 4; ++i) sum += block.word[i];
  }
  return static_cast<double>(sum - 6 * (int64_t{1} << 32)) * 0x1.0p-32;
}

}  // namespace lacuna
