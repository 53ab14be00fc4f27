// Scalar functions that compilers vectorise, for CPU kernels.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace lacuna::cpu {

inline double Exp(double x) {
  return std::exp(x);
}

// exp in f32 with at most 2 ulp of error in [-87.3, 88.7]; 0 below, +inf above; NaN stays NaN.
// x = n ln 2 + r with |r| <= ln 2 / 2 (two-part ln 2), exp(r) by a degree-6 polynomial, 2^n through
// the exponent bits.
inline float Exp(float x) {
  constexpr float kLog2e = 1.44269504088896341f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const float clamped = std::min(std::max(x, -87.33654f), 88.72283f);
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = clamped * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t exponent = static_cast<int32_t>(n);
  // Two factors, so that n = 128 does not overflow before the product.
  const int32_t half = exponent / 2;
  const float scale = std::bit_cast<float>((half + 127) << 23) *
                      std::bit_cast<float>((exponent - half + 127) << 23);
  float y = p * scale;
  y = x < -87.33654f ? 0.0f : y;
  y = x > 88.72283f ? INFINITY : y;
  return x != x ? x : y;
}

template <class T>
T Sigmoid(T x) {
  return T(1) / (T(1) + Exp(-x));
}

}  // namespace lacuna::cpu
