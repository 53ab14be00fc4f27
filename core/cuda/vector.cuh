// 16-byte accesses: a pack is kVector<T> elements of a row.
//
// Widen and Narrow convert a whole pack. bf16 goes two elements an instruction, halves of one
// register; taken out of a pack one by one they cost several.
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

// What one instruction moves of a pack of so many bytes.
template <int kBytes>
using PackWord = std::conditional_t<
    kBytes % 16 == 0, uint4,
    std::conditional_t<kBytes == 8, uint2,
                       std::conditional_t<kBytes == 4, uint32_t,
                                          std::conditional_t<kBytes == 2, uint16_t, uint8_t>>>>;

// One store. As an assignment the compiler splits it into its parts where they come from different
// places (seen with nvcc 13.0: 16-bit and 32-bit stores of whole packs). It may move the thread's
// other accesses past this: a kernel does not read back what it stores.
template <class Word>
__device__ void StoreWord(Word* data, const Word& word) {
  *data = word;
}
__device__ inline void StoreWord(uint2* data, const uint2& word) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(data)),
               "r"(word.x), "r"(word.y));
}
__device__ inline void StoreWord(uint4* data, const uint4& word) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(data)),
               "r"(word.x), "r"(word.y), "r"(word.z), "r"(word.w));
}

template <int kCount, class T>
__device__ Pack<T, kCount> LoadPack(const T* data) {
  using P = Pack<T, kCount>;
  using Word = PackWord<sizeof(P)>;
  Word words[sizeof(P) / sizeof(Word)];
#pragma unroll
  for (size_t i = 0; i < sizeof(P) / sizeof(Word); ++i)
    words[i] = reinterpret_cast<const Word*>(data)[i];
  P pack;
  memcpy(&pack, words, sizeof(P));
  return pack;
}
template <class T>
__device__ Pack<T> LoadPack(const T* data) {
  return LoadPack<kVector<T>>(data);
}
// To global memory.
template <class T, int kCount>
__device__ void StorePack(T* data, const Pack<T, kCount>& pack) {
  using P = Pack<T, kCount>;
  using Word = PackWord<sizeof(P)>;
  Word words[sizeof(P) / sizeof(Word)];
  memcpy(words, &pack, sizeof(P));
#pragma unroll
  for (size_t i = 0; i < sizeof(P) / sizeof(Word); ++i)
    StoreWord(reinterpret_cast<Word*>(data) + i, words[i]);
}

// A pack's elements as floats.
template <int kCount>
struct Floats {
  float value[kCount];
};

template <class T, int kCount>
__device__ Floats<kCount> Widen(const Pack<T, kCount>& pack) {
  Floats<kCount> out;
  if constexpr (std::is_same_v<T, BFloat16> && kCount % 2 == 0) {
    uint32_t pairs[kCount / 2];
    memcpy(pairs, &pack, sizeof(pack));
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      out.value[2 * i] = __uint_as_float(pairs[i] << 16);
      out.value[2 * i + 1] = __uint_as_float(pairs[i] & 0xFFFF0000u);
    }
  } else {
#pragma unroll
    for (int k = 0; k < kCount; ++k) out.value[k] = Load(pack.value[k]);
  }
  return out;
}
template <int kCount, class T>
__device__ Floats<kCount> LoadFloats(const T* data) {
  return Widen(LoadPack<kCount>(data));
}

template <class T, int kCount>
__device__ Pack<T, kCount> Narrow(const Floats<kCount>& in) {
  Pack<T, kCount> pack;
  if constexpr (std::is_same_v<T, BFloat16> && kCount % 2 == 0) {
    uint32_t pairs[kCount / 2];
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
          : "=r"(pairs[i])
          : "f"(in.value[2 * i + 1]), "f"(in.value[2 * i]));
    }
    memcpy(&pack, pairs, sizeof(pack));
  } else {
#pragma unroll
    for (int k = 0; k < kCount; ++k) pack.value[k] = Store<T>(in.value[k]);
  }
  return pack;
}
template <class T, int kCount>
__device__ void StoreFloats(T* data, const Floats<kCount>& in) {
  StorePack(data, Narrow<T>(in));
}

}  // namespace lacuna::cuda
