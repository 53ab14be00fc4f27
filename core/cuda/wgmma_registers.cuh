// Products of a warpgroup whose A is in registers: d [64 x N] += a [64 x 16] b [16 x N]. Sums and B are
// as in core/cuda/wgmma.cuh.
//
// A's fragments are those of mma.m16n8k16, warp w with rows 16 w ..: sums of 16 columns, packed, are a
// fragment of the next product. The registers of A may not change before the product is waited for.
#pragma once

#include "core/cuda/wgmma.cuh"

namespace lacuna::cuda {

template <int kN>
struct RegisterProduct;

// clang-format off
#define LACUNA_SUMS_8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])

#define LACUNA_REGISTER_PRODUCT_OF(NAME, N, SUMS, A, B, KEEP, TRANS_B, ...)                        \
  template <bool kBDepthContiguous>                                                                \
  static __device__ void NAME(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b) {             \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" SUMS "}, {" A        \
                 "}, " B ", " KEEP ", 1, 1, " TRANS_B ";"                                          \
                 : __VA_ARGS__                                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                             \
                   "n"(kBDepthContiguous ? 0 : 1));                                                \
  }
// Add: d += a b. Set: d = a b.
#define LACUNA_REGISTER_PRODUCT(N, SUMS, A, B, TRANS_B, ...)                                       \
  template <>                                                                                      \
  struct RegisterProduct<N> {                                                                      \
    LACUNA_REGISTER_PRODUCT_OF(Add, N, SUMS, A, B, "1", TRANS_B, __VA_ARGS__)                      \
    LACUNA_REGISTER_PRODUCT_OF(Set, N, SUMS, A, B, "0", TRANS_B, __VA_ARGS__)                      \
  };

LACUNA_REGISTER_PRODUCT(64,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31",
    "%32, %33, %34, %35", "%36", "%37",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24))
LACUNA_REGISTER_PRODUCT(128,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63",
    "%64, %65, %66, %67", "%68", "%69",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24),
    LACUNA_SUMS_8(32), LACUNA_SUMS_8(40), LACUNA_SUMS_8(48), LACUNA_SUMS_8(56))
LACUNA_REGISTER_PRODUCT(192,
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95",
    "%96, %97, %98, %99", "%100", "%101",
    LACUNA_SUMS_8(0), LACUNA_SUMS_8(8), LACUNA_SUMS_8(16), LACUNA_SUMS_8(24),
    LACUNA_SUMS_8(32), LACUNA_SUMS_8(40), LACUNA_SUMS_8(48), LACUNA_SUMS_8(56),
    LACUNA_SUMS_8(64), LACUNA_SUMS_8(72), LACUNA_SUMS_8(80), LACUNA_SUMS_8(88))
// clang-format on

#undef LACUNA_REGISTER_PRODUCT
#undef LACUNA_REGISTER_PRODUCT_OF
#undef LACUNA_SUMS_8

}  // namespace lacuna::cuda
