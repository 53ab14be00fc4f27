// core/cuda/wgmma.cuh and core/cuda/wgmma_registers.cuh for the emulation. Products are done when they
// are waited for, from what then stands in shared memory.
#pragma once

#include <vector>

#include "core/cuda/hopper.cuh"

namespace lacuna::cuda {

inline uint64_t DescribeAcross(uint32_t shared, uint32_t next) {
  return uint64_t{(shared & 0x3FFFF) >> 4} | uint64_t{next >> 4} << 16 | uint64_t{1024 >> 4} << 32;
}
inline uint64_t DescribeContiguous(uint32_t shared) {
  return DescribeAcross(shared, 16);
}
template <bool kDepthContiguous>
uint64_t Describe(uint32_t shared, uint32_t next) {
  return kDepthContiguous ? DescribeContiguous(shared) : DescribeAcross(shared, next);
}
template <bool kDepthContiguous>
inline constexpr uint64_t kDepthStep = (kDepthContiguous ? 32 : 2048) >> 4;

// One product of a warpgroup, as one of its threads started it.
struct Product {
  float* sums;
  int columns;
  bool adds, a_in_registers, a_contiguous, b_contiguous;
  uint32_t registers[4];
  uint64_t a, b;
  int group;  // of those this thread committed
};
struct Products {
  std::vector<Product> started;
  int committed = 0;
};
// Of the running thread.
Products& MyProducts();
// Of the thread whose number in the block is given.
Products& ProductsOf(unsigned thread);

// Element `i` across the depth, `k` along it.
inline float OperandElement(uint64_t description, bool contiguous, int i, int k) {
  const auto start = static_cast<uint32_t>(description & 0x3FFF) << 4,
             next = static_cast<uint32_t>(description >> 16 & 0x3FFF) << 4;
  const uint32_t at = contiguous ? start + i / 8 * 1024 + i % 8 * 128 + k * 2
                                 : start + i / 64 * next + k / 8 * 1024 + k % 8 * 128 + i % 64 * 2;
  return std::bit_cast<float>(uint32_t{LoadFrom<uint16_t>(Swizzled(at))} << 16);
}

inline void BeginProducts() {}
inline void CommitProducts() {
  ++MyProducts().committed;
}
// Until at most `pending` of the committed groups are under way.
void FinishProducts(int pending);
template <int kPending>
void WaitProducts() {
  FinishProducts(kPending);
}
template <int kCount>
void PinSums(float (&)[kCount]) {}

inline void StartProduct(Product p) {
  p.group = MyProducts().committed;
  MyProducts().started.push_back(p);
}
template <int kN>
struct WarpgroupProduct {
  template <bool kA, bool kB>
  static void Add(float (&d)[kN / 2], uint64_t a, uint64_t b) {
    StartProduct({d, kN, true, false, kA, kB, {}, a, b, 0});
  }
  template <bool kA, bool kB>
  static void Set(float (&d)[kN / 2], uint64_t a, uint64_t b) {
    StartProduct({d, kN, false, false, kA, kB, {}, a, b, 0});
  }
};
template <int kN>
struct RegisterProduct {
  template <bool kB>
  static void Add(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b) {
    StartProduct({d, kN, true, true, true, kB, {a[0], a[1], a[2], a[3]}, 0, b, 0});
  }
  template <bool kB>
  static void Set(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b) {
    StartProduct({d, kN, false, true, true, kB, {a[0], a[1], a[2], a[3]}, 0, b, 0});
  }
};

}  // namespace lacuna::cuda
