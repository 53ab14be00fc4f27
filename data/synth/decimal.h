// Whole numbers of any size, for checking answers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lacuna {

class Decimal {
 public:
  Decimal() = default;  // 0
  // Digits only, at least one; leading zeros count for nothing.
  explicit Decimal(std::string_view digits);

  Decimal operator+(const Decimal& other) const;
  Decimal operator*(const Decimal& other) const;
  bool operator==(const Decimal&) const = default;
  std::string ToString() const;  // without leading zeros

 private:
  void Trim();

  std::vector<uint32_t> limbs_;  // base 10^9, the least significant one first; none for 0
};

}  // namespace lacuna
