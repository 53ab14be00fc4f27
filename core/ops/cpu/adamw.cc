#include "core/ops/adamw.h"

#include <cmath>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

// T: of the values, A: of the master copy, M: of the moments.
template <class T, class A, class M>
void Update(const AdamWArgs& args, A scale) {
  A* p = args.master.As<A>();
  M *m = args.m.As<M>(), *v = args.v.As<M>();
  const A* g = args.grad.As<A>();
  T* value = args.value.As<T>();
  const bool separate = args.value.data != args.master.data;
  const auto f = AdamWFactors<A>::Of(args);
  ParallelForChunks(args.master.numel(), 16384, 10, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const A gradient = scale * g[i];
      const A first = f.beta1 * static_cast<A>(Widen(m[i])) + (A(1) - f.beta1) * gradient;
      const A second =
          f.beta2 * static_cast<A>(Widen(v[i])) + (A(1) - f.beta2) * gradient * gradient;
      m[i] = Narrow<M>(first);
      v[i] = Narrow<M>(second);
      p[i] -= f.step * first / (std::sqrt(second * f.correction) + f.eps) + f.decay * p[i];
    }
    if (!separate) return;
    for (int64_t i = begin; i < end; ++i) value[i] = Narrow<T>(p[i]);
  });
}

}  // namespace

void AdamW(const AdamWArgs& args, Stream) {
  const double scale = *args.gradient_scale.As<double>();
  if (std::isnan(scale)) return;
  DispatchFloat(args.value.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = ComputeType<T>;
    if (args.m.dtype == DType::kBF16) {
      Update<T, A, BFloat16>(args, static_cast<A>(scale));
    } else {
      Update<T, A, A>(args, static_cast<A>(scale));
    }
  });
}

}  // namespace lacuna::cpu
