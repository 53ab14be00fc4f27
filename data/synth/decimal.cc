#include "data/synth/decimal.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace lacuna {
namespace {

constexpr size_t kLimbDigits = 9;
constexpr uint64_t kBase = 1'000'000'000;

}  // namespace

Decimal::Decimal(std::string_view digits) {
  LACUNA_CHECK(!digits.empty(), "a number without digits");
  for (size_t end = digits.size(); end > 0;) {
    const size_t begin = end > kLimbDigits ? end - kLimbDigits : 0;
    uint32_t limb = 0;
    for (const char c : digits.substr(begin, end - begin)) {
      LACUNA_CHECK(c >= '0' && c <= '9', "'{}' is no digit", c);
      limb = limb * 10 + static_cast<uint32_t>(c - '0');
    }
    limbs_.push_back(limb);
    end = begin;
  }
  Trim();
}

void Decimal::Trim() {
  while (!limbs_.empty() && limbs_.back() == 0) limbs_.pop_back();
}

Decimal Decimal::operator+(const Decimal& other) const {
  Decimal sum;
  uint64_t carry = 0;
  for (size_t i = 0; i < std::max(limbs_.size(), other.limbs_.size()) || carry > 0; ++i) {
    if (i < limbs_.size()) carry += limbs_[i];
    if (i < other.limbs_.size()) carry += other.limbs_[i];
    sum.limbs_.push_back(static_cast<uint32_t>(carry % kBase));
    carry /= kBase;
  }
  return sum;
}

Decimal Decimal::operator*(const Decimal& other) const {
  Decimal product;
  product.limbs_.assign(limbs_.size() + other.limbs_.size(), 0);
  for (size_t i = 0; i < limbs_.size(); ++i) {
    uint64_t carry = 0;
    for (size_t j = 0; j < other.limbs_.size() || carry > 0; ++j) {
      carry += product.limbs_[i + j];
      if (j < other.limbs_.size()) carry += uint64_t{limbs_[i]} * other.limbs_[j];
      product.limbs_[i + j] = static_cast<uint32_t>(carry % kBase);
      carry /= kBase;
    }
  }
  product.Trim();
  return product;
}

std::string Decimal::ToString() const {
  if (limbs_.empty()) return "0";
  std::string text = fmt::format("{}", limbs_.back());
  for (size_t i = limbs_.size() - 1; i-- > 0;) text += fmt::format("{:09}", limbs_[i]);
  return text;
}

}  // namespace lacuna
