// From a run-time dtype to a template argument:
//   DispatchFloat(x.dtype, [&](auto tag) { using T = typename decltype(tag)::type; Kernel<T>(...);
//     });
#pragma once

#include <type_traits>

#include "core/dtype.h"
#include "core/error.h"

namespace lacuna {

// f32, f64 and bf16.
template <class F>
void DispatchFloat(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f(std::type_identity<float>{});
    case DType::kF64:
      return f(std::type_identity<double>{});
    case DType::kBF16:
      return f(std::type_identity<BFloat16>{});
    default:
      LACUNA_CHECK(false, "expected a floating-point tensor, got {}", NameOf(dtype));
  }
}

// f32 and f64: accumulation buffers.
template <class F>
void DispatchAccumulation(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f(std::type_identity<float>{});
    case DType::kF64:
      return f(std::type_identity<double>{});
    default:
      LACUNA_CHECK(false, "expected f32 or f64, got {}", NameOf(dtype));
  }
}

template <class F>
void DispatchAny(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kI32:
      return f(std::type_identity<int32_t>{});
    case DType::kI64:
      return f(std::type_identity<int64_t>{});
    case DType::kU8:
      return f(std::type_identity<uint8_t>{});
    default:
      return DispatchFloat(dtype, std::forward<F>(f));
  }
}

// Loads and stores of elements: bf16 through float, everything else as it is.
template <class T>
auto Widen(T value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return static_cast<float>(value);
  } else {
    return value;
  }
}
template <class To, class From>
To Narrow(From value) {
  if constexpr (std::is_same_v<To, BFloat16>) {
    return BFloat16(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace lacuna
