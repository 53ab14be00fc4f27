#include "core/ops/rope.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

template <class T>
void Rotate(const RopeArgs& args) {
  using A = ComputeType<T>;
  const int64_t heads = args.x.dim(1), width = args.x.dim(2), half = args.cos.dim(1),
                table = args.cos.dim(0);
  const int32_t* positions = args.positions.As<int32_t>();
  ParallelForChunks(args.x.dim(0), 32, heads * width, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t position = positions[n];
      LACUNA_CHECK(position >= 0 && position < table, "rope: position {} outside the table of {}",
                   position, table);
      const A *cos = args.cos.As<A>() + position * half, *sin = args.sin.As<A>() + position * half;
      for (int64_t h = 0; h < heads; ++h) {
        const T* x = args.x.As<T>() + (n * heads + h) * width;
        T* y = args.y.As<T>() + (n * heads + h) * width;
        for (int64_t i = 0; i < half; ++i) {
          const A a = Widen(x[i]), b = Widen(x[i + half]), s = args.inverse ? -sin[i] : sin[i];
          y[i] = Narrow<T>(a * cos[i] - b * s);
          y[i + half] = Narrow<T>(b * cos[i] + a * s);
        }
        if (x != y) std::copy(x + 2 * half, x + width, y + 2 * half);
      }
    }
  });
}

}  // namespace

void Rope(const RopeArgs& args, Stream) {
  DispatchFloat(args.x.dtype, [&](auto tag) { Rotate<typename decltype(tag)::type>(args); });
}

}  // namespace lacuna::cpu
