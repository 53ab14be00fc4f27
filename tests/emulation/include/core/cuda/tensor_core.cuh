// core/cuda/tensor_core.cuh for the emulation: what the Hopper kernels use of it.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>

namespace lacuna::cuda {

inline uint32_t SharedAddress(const void* shared) {
  return emulation::AddressOf(shared);
}
inline void CopyAsync(uint32_t shared, const void* global, int bytes) {
  auto& copies = emulation::MyCopies();
  copies.started.emplace_back(copies.committed, [=, rank = emulation::ThisThread().rank] {
    std::memcpy(emulation::Shared(shared, rank), global, static_cast<size_t>(bytes));
  });
}
inline void CopyAsync16(uint32_t shared, const void* global) {
  CopyAsync(shared, global, 16);
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
  static_assert(!kTranspose);
  const auto rows = emulation::Gather(shared);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int i = 0; i < 4; ++i) r[i] = LoadFrom<uint32_t>(rows[8 * i + lane / 4] + lane % 4 * 4);
}

inline uint32_t RoundToBFloat16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::isnan(x) ? 0x7FC0u : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}
inline uint32_t PackBFloat16(float low, float high) {
  return RoundToBFloat16(low) | RoundToBFloat16(high) << 16;
}

}  // namespace lacuna::cuda
