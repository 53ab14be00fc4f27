// 16-byte accesses: kVector<T> elements of a row at once, widened to f32.
#pragma once

#include "core/cuda/launch.cuh"

namespace lacuna::cuda {

template <class T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

template <class T>
struct alignas(16) Pack {
  T value[kVector<T>];
};

// True where rows of `columns` elements at `data` can be read in packs.
template <class T>
bool Packable(const void* data, int64_t columns) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && columns % kVector<T> == 0;
}

template <class T>
__device__ Pack<T> LoadPack(const T* data) {
  return *reinterpret_cast<const Pack<T>*>(data);
}
template <class T>
__device__ void StorePack(T* data, const Pack<T>& pack) {
  *reinterpret_cast<Pack<T>*>(data) = pack;
}

}  // namespace lacuna::cuda
