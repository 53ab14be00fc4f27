// 16-byte accesses: a pack is kVector<T> elements of a row.
#pragma once

#include "core/cuda/launch.cuh"

namespace lacuna::cuda {

template <class T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

// kCount elements that are loaded and stored together, in 16-byte pieces.
template <class T, int kCount = kVector<T>>
struct alignas(kCount * sizeof(T) < 16 ? kCount * sizeof(T) : 16) Pack {
  T value[kCount];
};

inline bool IsAligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0;
}
// True where rows of `columns` elements at `data` can be read in packs.
template <class T>
bool Packable(const void* data, int64_t columns) {
  return IsAligned(data) && columns % kVector<T> == 0;
}

template <int kCount, class T>
__device__ Pack<T, kCount> LoadPack(const T* data) {
  return *reinterpret_cast<const Pack<T, kCount>*>(data);
}
template <class T>
__device__ Pack<T> LoadPack(const T* data) {
  return LoadPack<kVector<T>>(data);
}
template <class T, int kCount>
__device__ void StorePack(T* data, const Pack<T, kCount>& pack) {
  *reinterpret_cast<Pack<T, kCount>*>(data) = pack;
}

}  // namespace lacuna::cuda
