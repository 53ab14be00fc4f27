#include "core/ops/swiglu.h"

#include "core/cpu/math.h"
#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {

void SwiGluFwd(const SwiGluFwdArgs& args, Stream) {
  DispatchFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = ComputeType<T>;
    const int64_t width = args.h.dim(1);
    ParallelForChunks(args.h.dim(0), 16, 8 * width, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const T *gate = args.x.As<T>() + 2 * n * width, *up = gate + width;
        T* h = args.h.As<T>() + n * width;
        for (int64_t f = 0; f < width; ++f) {
          const A a = Widen(gate[f]);
          h[f] = Narrow<T>(a * Sigmoid(a) * static_cast<A>(Widen(up[f])));
        }
      }
    });
  });
}

void SwiGluBwd(const SwiGluBwdArgs& args, Stream) {
  DispatchFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = ComputeType<T>;
    const int64_t width = args.dh.dim(1);
    ParallelForChunks(args.dh.dim(0), 16, 10 * width, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const T *gate = args.x.As<T>() + 2 * n * width, *up = gate + width,
                *dh = args.dh.As<T>() + n * width;
        T *dgate = args.dx.As<T>() + 2 * n * width, *dup = dgate + width;
        for (int64_t f = 0; f < width; ++f) {
          const A a = Widen(gate[f]), u = Widen(up[f]), d = Widen(dh[f]), s = Sigmoid(a);
          dgate[f] = Narrow<T>(d * u * s * (A(1) + a * (A(1) - s)));
          dup[f] = Narrow<T>(d * a * s);
        }
      }
    });
  });
}

}  // namespace lacuna::cpu
