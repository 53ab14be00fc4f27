#include "core/ops/adamw.h"

#include <cmath>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {

void AdamW(const AdamWArgs& args, Stream) {
  DispatchFloat(args.value.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = ComputeType<T>;
    A *p = args.master.As<A>(), *m = args.m.As<A>(), *v = args.v.As<A>();
    const A* g = args.grad.As<A>();
    T* value = args.value.As<T>();
    const bool separate = args.value.data != args.master.data;
    const A beta1 = static_cast<A>(args.beta1), beta2 = static_cast<A>(args.beta2),
            scale = static_cast<A>(args.gradient_scale);
    const A step = static_cast<A>(args.learning_rate /
                                  (1 - std::pow(args.beta1, static_cast<double>(args.step))));
    const A correction =
        static_cast<A>(1 / (1 - std::pow(args.beta2, static_cast<double>(args.step))));
    const A decay = static_cast<A>(args.learning_rate * args.weight_decay),
            eps = static_cast<A>(args.eps);
    ParallelForChunks(args.master.numel(), 16384, 10, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const A gradient = scale * g[i];
        m[i] = beta1 * m[i] + (A(1) - beta1) * gradient;
        v[i] = beta2 * v[i] + (A(1) - beta2) * gradient * gradient;
        p[i] -= step * m[i] / (std::sqrt(v[i] * correction) + eps) + decay * p[i];
      }
      if (!separate) return;
      for (int64_t i = begin; i < end; ++i) value[i] = Narrow<T>(p[i]);
    });
  });
}

}  // namespace lacuna::cpu
