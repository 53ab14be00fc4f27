// Products of a warpgroup (wgmma, sm_90a): d [64 x N] += a [64 x 16] b [16 x N], bf16 operands in
// shared memory, f32 sums in registers.
//
// Thread i of the warpgroup, warp w = i / 32, g = i % 32 / 4, t = i % 4, holds for each 8 columns j
//   d[4 j], d[4 j + 1]       row 16 w + g,      columns 8 j + 2 t, 8 j + 2 t + 1
//   d[4 j + 2], d[4 j + 3]   row 16 w + g + 8,  the same columns
//
// Operands lie in rows of 128 bytes with the copy engine's 128-byte swizzle, each tile at a multiple
// of 1024 bytes:
//   depth contiguous   [rows or columns][64 of the depth]; 16 further in depth: + 32 bytes
//   across             [depth][64 rows or columns]; 16 further in depth: + 2048 bytes. Tiles of the
//                      next 64 rows or columns follow `next` bytes on.
#pragma once

#include <cstdint>

namespace lacuna::cuda {

// Of tiles with the depth contiguous; groups of 8 rows follow one another.
__device__ inline uint64_t DescribeContiguous(uint32_t shared) {
  return uint64_t{(shared & 0x3FFFF) >> 4} | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 |
         uint64_t{1} << 62;
}
// Of tiles that stand across.
__device__ inline uint64_t DescribeAcross(uint32_t shared, uint32_t next) {
  return uint64_t{(shared & 0x3FFFF) >> 4} | uint64_t{next >> 4} << 16 | uint64_t{1024 >> 4} << 32 |
         uint64_t{1} << 62;
}
template <bool kDepthContiguous>
__device__ uint64_t Describe(uint32_t shared, uint32_t next) {
  if constexpr (kDepthContiguous) {
    return DescribeContiguous(shared);
  } else {
    return DescribeAcross(shared, next);
  }
}
// What 16 further in depth adds to a description.
template <bool kDepthContiguous>
inline constexpr uint64_t kDepthStep = (kDepthContiguous ? 32 : 2048) >> 4;

// Orders this thread's accesses to the sums before the products that follow.
__device__ inline void BeginProducts() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most kPending of the committed groups are under way.
template <int kPending>
__device__ void WaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving accesses to a sum across this point.
template <int kCount>
__device__ void PinSums(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

template <int kN>
struct WarpgroupProduct;

// clang-format off
#define LACUNA_SUMS_8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])

#define LACUNA_PRODUCT_OF(NAME, N, SUMS, A, B, KEEP, TRANS_A, TRANS_B, ...)                        \
  template <bool kADepthContiguous, bool kBDepthContiguous>                                        \
  static __device__ void NAME(float (&d)[N / 2], uint64_t a, uint64_t b) {                         \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" SUMS "}, " A ", "    \
                 B ", " KEEP ", 1, 1, " TRANS_A ", " TRANS_B ";"                                   \
                 : __VA_ARGS__                                                                     \
                 : "l"(a), "l"(b), "n"(kADepthContiguous ? 0 : 1),                                 \
                   "n"(kBDepthContiguous ? 0 : 1));                                                \
  }
// Add: d += a b. Set: d = a b.
#define LACUNA_WARPGROUP_PRODUCT(N, SUMS, A, B, TRANS_A, TRANS_B, ...)                             \
  template <>                                                                                      \
  struct WarpgroupProduct<N> {                                                                     \
    LACUNA_PRODUCT_OF(Add, N, SUMS, A, B, "1", TRANS_A, TRANS_B, __VA_ARGS__)                      \
    LACUNA_PRODUCT_OF(Set, N, SUMS, A, B, "0", TRANS_A, TRANS_B, __VA_ARGS__)                      \
  };

LACUNA_WARPGROUP_PRODUCT(16,
    "%0, %1, %2, %3, %4, %5, %6, %7",
    "%8", "%9", "%10", "%11",
    LACUNA_SUMS_8(0))
LACUNA_WARPGROUP_PRODUCT(32,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15",
    "%16", "%17", "%18", "%19",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8))
LACUNA_WARPGROUP_PRODUCT(48,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23",
    "%24", "%25", "%26", "%27",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16))
LACUNA_WARPGROUP_PRODUCT(64,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31",
    "%32", "%33", "%34", "%35",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24))
LACUNA_WARPGROUP_PRODUCT(80,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
    "%32, %33, %34, %35, %36, %37, %38, %39",
    "%40", "%41", "%42", "%43",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24),
    LACUNA_SUMS_8(32))
LACUNA_WARPGROUP_PRODUCT(96,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47",
    "%48", "%49", "%50", "%51",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24),
    LACUNA_SUMS_8(32), LACUNA_SUMS_8(40))
LACUNA_WARPGROUP_PRODUCT(112,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
    "%48, %49, %50, %51, %52, %53, %54, %55",
    "%56", "%57", "%58", "%59",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24),
    LACUNA_SUMS_8(32), LACUNA_SUMS_8(40), LACUNA_SUMS_8(48))
LACUNA_WARPGROUP_PRODUCT(128,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63",
    "%64", "%65", "%66", "%67",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24),
    LACUNA_SUMS_8(32), LACUNA_SUMS_8(40), LACUNA_SUMS_8(48), LACUNA_SUMS_8(56))
LACUNA_WARPGROUP_PRODUCT(192,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95",
    "%96", "%97", "%98", "%99",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24),
    LACUNA_SUMS_8(32), LACUNA_SUMS_8(40), LACUNA_SUMS_8(48), LACUNA_SUMS_8(56),
    LACUNA_SUMS_8(64), LACUNA_SUMS_8(72), LACUNA_SUMS_8(80), LACUNA_SUMS_8(88))
LACUNA_WARPGROUP_PRODUCT(160,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79",
    "%80", "%81", "%82", "%83",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24),
    LACUNA_SUMS_8(32), LACUNA_SUMS_8(40), LACUNA_SUMS_8(48), LACUNA_SUMS_8(56),
    LACUNA_SUMS_8(64), LACUNA_SUMS_8(72))
LACUNA_WARPGROUP_PRODUCT(224,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111",
    "%112", "%113", "%114", "%115",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24),
    LACUNA_SUMS_8(32), LACUNA_SUMS_8(40), LACUNA_SUMS_8(48), LACUNA_SUMS_8(56),
    LACUNA_SUMS_8(64), LACUNA_SUMS_8(72), LACUNA_SUMS_8(80), LACUNA_SUMS_8(88),
    LACUNA_SUMS_8(96), LACUNA_SUMS_8(104))
LACUNA_WARPGROUP_PRODUCT(256,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127",
    "%128", "%129", "%130", "%131",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24),
    LACUNA_SUMS_8(32), LACUNA_SUMS_8(40), LACUNA_SUMS_8(48), LACUNA_SUMS_8(56),
    LACUNA_SUMS_8(64), LACUNA_SUMS_8(72), LACUNA_SUMS_8(80), LACUNA_SUMS_8(88),
    LACUNA_SUMS_8(96), LACUNA_SUMS_8(104), LACUNA_SUMS_8(112), LACUNA_SUMS_8(120))
// clang-format on

#undef LACUNA_WARPGROUP_PRODUCT
#undef LACUNA_PRODUCT_OF
#undef LACUNA_SUMS_8

}  // namespace lacuna::cuda
