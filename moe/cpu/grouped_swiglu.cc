#include "moe/grouped_swiglu.h"

#include <cstddef>
#include <vector>

#include "core/cpu/math.h"
#include "core/dispatch.h"
#include "core/ops/swiglu.h"
#include "core/parallel.h"
#include "moe/cpu/rows_of.h"

namespace lacuna::cpu {
void GroupedSwiGlu(const GroupedSwiGluArgs& args, Stream stream) {
  GroupedMatMul({.x = args.x,
                 .w = args.w,
                 .offsets = args.offsets,
                 .y = args.z,
                 .chunks = args.chunks,
                 .chunk = args.chunk},
                stream);
  if (args.chunk == kAllChunks) return SwiGluFwd({.x = args.z, .h = args.h}, stream);
  for (int64_t e = 0; e < args.w.dim(0); ++e) {
    const int64_t* const rows = args.offsets.As<int64_t>() + e * args.chunks + args.chunk;
    SwiGluFwd({.x = RowsOf(args.z, rows[0], rows[1]), .h = RowsOf(args.h, rows[0], rows[1])},
              stream);
  }
}

void RoutedSwiGluBwd(const RoutedSwiGluBwdArgs& args, Stream stream) {
  std::vector<std::byte> gradients(static_cast<size_t>(args.wh.numel() * SizeOf(args.wh.dtype)));
  TensorRef dh = args.wh;
  dh.data = gradients.data();
  GroupedMatMul({.x = args.dy,
                 .w = args.down,
                 .offsets = args.offsets,
                 .y = dh,
                 .transpose_w = false,
                 .chunks = args.chunks},
                stream);
  DispatchFloat(args.z.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = ComputeType<T>;
    const int64_t width = dh.dim(1);
    ParallelForChunks(args.position.numel(), 16, 12 * width, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t r = args.position.As<int32_t>()[i];
        if (r < 0) {
          args.dw.As<A>()[i] = 0;
          continue;
        }
        const A weight = args.w.As<A>()[i];
        const T *gate = args.z.As<T>() + 2 * r * width, *up = gate + width,
                *d_h = dh.As<T>() + r * width;
        T *dgate = args.dz.As<T>() + 2 * r * width, *dup = dgate + width,
          *wh = args.wh.As<T>() + r * width;
        A dot = 0;
        for (int64_t f = 0; f < width; ++f) {
          const A a = Widen(gate[f]), u = Widen(up[f]), d = Widen(d_h[f]), s = Sigmoid(a);
          const A h = a * s * u, dw = weight * d;
          dot += d * h;
          wh[f] = Narrow<T>(weight * h);
          dgate[f] = Narrow<T>(dw * u * s * (A(1) + a * (A(1) - s)));
          dup[f] = Narrow<T>(dw * a * s);
        }
        args.dw.As<A>()[i] = dot;
      }
    });
  });
}

}  // namespace lacuna::cpu
