#include "nsa/phi_activation.h"

#include <cmath>
#include <numbers>

#include "core/cpu/math.h"
#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

template <class A>
struct Silu {
  static A Value(A a) { return a * Sigmoid(a); }
  static A Slope(A a) {
    const A s = Sigmoid(a);
    return s * (A(1) + a * (A(1) - s));
  }
};

template <class A>
struct GeluTanh {
  static constexpr A kScale = static_cast<A>(std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
  static constexpr A kCubic = static_cast<A>(0.044715);
  static A Value(A a) { return A(0.5) * a * (A(1) + std::tanh(kScale * (a + kCubic * a * a * a))); }
  static A Slope(A a) {
    const A t = std::tanh(kScale * (a + kCubic * a * a * a));
    return A(0.5) * (A(1) + t) + A(0.5) * a * (A(1) - t * t) * kScale * (A(1) + 3 * kCubic * a * a);
  }
};

template <class F>
void ForEach(int64_t n, F&& f) {
  ParallelForChunks(n, 8192, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

template <class T, class Activation>
void Forward(const PhiActivationFwdArgs& args) {
  const T* a = args.a.As<T>();
  T* y = args.y.As<T>();
  ForEach(args.a.numel(), [=](int64_t i) { y[i] = Narrow<T>(Activation::Value(Widen(a[i]))); });
}

template <class T, class Activation>
void Backward(const PhiActivationBwdArgs& args) {
  const T *a = args.a.As<T>(), *dy = args.dy.As<T>();
  T* da = args.da.As<T>();
  ForEach(args.a.numel(),
          [=](int64_t i) { da[i] = Narrow<T>(Widen(dy[i]) * Activation::Slope(Widen(a[i]))); });
}

}  // namespace

void PhiActivationFwd(const PhiActivationFwdArgs& args, Stream) {
  DispatchFloat(args.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    args.kind == PhiActivation::kSilu ? Forward<T, Silu<ComputeType<T>>>(args)
                                      : Forward<T, GeluTanh<ComputeType<T>>>(args);
  });
}

void PhiActivationBwd(const PhiActivationBwdArgs& args, Stream) {
  DispatchFloat(args.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    args.kind == PhiActivation::kSilu ? Backward<T, Silu<ComputeType<T>>>(args)
                                      : Backward<T, GeluTanh<ComputeType<T>>>(args);
  });
}

}  // namespace lacuna::cpu
