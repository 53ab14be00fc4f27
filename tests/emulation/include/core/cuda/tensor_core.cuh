// core/cuda/tensor_core.cuh for the emulation: what the Hopper kernels use of it.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <stdexcept>

namespace lacuna::cuda {

inline uint32_t SharedAddress(const void* shared) {
  return emulation::AddressOf(shared);
}
inline void CopyAsync(uint32_t shared, const void* global, int bytes, bool valid = true) {
  if (shared % static_cast<uint32_t>(bytes) != 0) throw std::runtime_error("a copy is not aligned");
  auto& copies = emulation::MyCopies();
  copies.started.emplace_back(copies.committed, [=, rank = emulation::ThisThread().rank] {
    char* const to = emulation::Shared(shared, rank);
    std::memset(to, 0, static_cast<size_t>(bytes));
    if (valid) std::memcpy(to, global, static_cast<size_t>(bytes));
  });
}
inline void CopyAsync16(uint32_t shared, const void* global, bool valid = true) {
  CopyAsync(shared, global, 16, valid);
}
inline void CopyAsync4(uint32_t shared, const void* global) {
  CopyAsync(shared, global, 4);
}
inline void CommitCopies() {
  ++emulation::MyCopies().committed;
}
template <int kPending>
void WaitCopies() {
  auto& copies = emulation::MyCopies();
  auto& started = copies.started;
  for (; !started.empty() && started.front().first < copies.committed - kPending;
       started.erase(started.begin()))
    started.front().second();
}

template <class T>
T LoadFrom(uint32_t shared) {
  T value;
  std::memcpy(&value, emulation::Shared(shared), sizeof value);
  return value;
}
template <class T>
void StoreTo(uint32_t shared, const T& value) {
  std::memcpy(emulation::Shared(shared), &value, sizeof value);
}
inline void StoreShared16(uint32_t shared, const uint4& value) {
  StoreTo(shared, value);
}
inline void StoreShared8(uint32_t shared, float x, float y) {
  StoreTo(shared, float2{x, y});
}
inline void StoreShared4(uint32_t shared, float x) {
  StoreTo(shared, x);
}
inline uint4 LoadShared16(uint32_t shared) {
  return LoadFrom<uint4>(shared);
}
inline float2 LoadShared8(uint32_t shared) {
  return LoadFrom<float2>(shared);
}
inline float LoadShared4(uint32_t shared) {
  return LoadFrom<float>(shared);
}

template <bool kTranspose>
void LoadMatrices(uint32_t (&r)[4], uint32_t shared) {
  const auto rows = emulation::Gather(shared);
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    if constexpr (kTranspose) {
      const uint32_t low = LoadFrom<uint16_t>(rows[8 * i + 2 * t] + 2 * g),
                     high = LoadFrom<uint16_t>(rows[8 * i + 2 * t + 1] + 2 * g);
      r[i] = low | high << 16;
    } else {
      r[i] = LoadFrom<uint32_t>(rows[8 * i + g] + 4 * t);
    }
  }
}

// The products of a lane need all lanes' rows of A and columns of B.
inline void MultiplyAdd16816(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const std::array<std::array<uint32_t, 32>, 4> all_a = {
      emulation::Gather(a[0]), emulation::Gather(a[1]), emulation::Gather(a[2]),
      emulation::Gather(a[3])};
  const std::array<std::array<uint32_t, 32>, 2> all_b = {emulation::Gather(b0),
                                                         emulation::Gather(b1)};
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const auto half = [](uint32_t pair, int k) {
    return std::bit_cast<float>(k % 2 == 0 ? pair << 16 : pair & 0xFFFF0000u);
  };
  for (int x = 0; x < 4; ++x) {
    const int column = 2 * t + x % 2;
    for (int k = 0; k < 16; ++k) {
      c[x] += half(all_a[x / 2 + k / 8 * 2][4 * g + k % 8 / 2], k) *
              half(all_b[k / 8][4 * column + k % 8 / 2], k);
    }
  }
}

inline uint32_t RoundToBFloat16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::isnan(x) ? 0x7FC0u : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}
inline uint32_t PackBFloat16(float low, float high) {
  return RoundToBFloat16(low) | RoundToBFloat16(high) << 16;
}

}  // namespace lacuna::cuda
