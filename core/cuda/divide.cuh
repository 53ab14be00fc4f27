// Division of 32-bit indices by a number that is known at the launch: a multiplication and shifts
// instead of some twenty instructions.
#pragma once

#include <cstdint>

namespace lacuna::cuda {

// n / divisor for 0 <= n < 2^31, divisor in [1, 2^31): m = ceil(2^(31 + s) / divisor) with 2^s >=
// divisor fits 32 bits, and is off by less than 2^s / 2^(31 + s) for such n (Granlund and
// Montgomery, Division by Invariant Integers using Multiplication, 1994).
class Divider {
 public:
  explicit constexpr Divider(uint32_t divisor) {
    while ((uint64_t{1} << shift_) < divisor) ++shift_;
    magic_ = static_cast<uint32_t>(((uint64_t{1} << (31 + shift_)) + divisor - 1) / divisor);
  }
  constexpr uint32_t Divide(uint32_t n) const {
    return static_cast<uint32_t>((uint64_t{n} * magic_) >> (31 + shift_));
  }

 private:
  uint32_t magic_ = 0;
  int shift_ = 0;
};

}  // namespace lacuna::cuda
