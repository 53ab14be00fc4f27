#include "core/ops/rms_norm.h"

#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

constexpr int64_t kRowsPerChunk = 64;

template <class T>
void Fwd(const RmsNormFwdArgs& args) {
  using A = ComputeType<T>;
  const int64_t columns = args.x.dim(1);
  const T* w = args.w.As<T>();
  ParallelForChunks(args.x.dim(0), kRowsPerChunk, 2 * columns, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* x = args.x.As<T>() + row * columns;
      T* y = args.y.As<T>() + row * columns;
      A sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t c = 0; c < columns; ++c) {
        const A v = Widen(x[c]);
        sum += v * v;
      }
      const A rstd = A(1) / std::sqrt(sum / static_cast<A>(columns) + static_cast<A>(args.eps));
      args.rstd.As<A>()[row] = rstd;
      for (int64_t c = 0; c < columns; ++c)
        y[c] = Narrow<T>(static_cast<A>(Widen(x[c])) * rstd * static_cast<A>(Widen(w[c])));
    }
  });
}

template <class T>
void Bwd(const RmsNormBwdArgs& args) {
  using A = ComputeType<T>;
  const int64_t rows = args.x.dim(0), columns = args.x.dim(1);
  const T* w = args.w.As<T>();
  // dw is summed within chunks of rows, then over the chunks in order: the same bits for any number
  // of threads.
  const int64_t chunks = (rows + kRowsPerChunk - 1) / kRowsPerChunk;
  std::vector<A> partial(static_cast<size_t>(chunks * columns), A(0));
  ParallelForChunks(rows, kRowsPerChunk, 4 * columns, [&](int64_t begin, int64_t end) {
    A* dw = partial.data() + begin / kRowsPerChunk * columns;
    for (int64_t row = begin; row < end; ++row) {
      const T *x = args.x.As<T>() + row * columns, *dy = args.dy.As<T>() + row * columns;
      const T* add = args.add.defined() ? args.add.As<T>() + row * columns : nullptr;
      T* dx = args.dx.As<T>() + row * columns;
      const A rstd = args.rstd.As<A>()[row];
      A dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t c = 0; c < columns; ++c) {
        dot += static_cast<A>(Widen(x[c])) * rstd * static_cast<A>(Widen(w[c])) *
               static_cast<A>(Widen(dy[c]));
      }
      const A mean = dot / static_cast<A>(columns);
      for (int64_t c = 0; c < columns; ++c) {
        const A xhat = static_cast<A>(Widen(x[c])) * rstd, g = Widen(dy[c]);
        dw[c] += g * xhat;
        const A d = rstd * (static_cast<A>(Widen(w[c])) * g - xhat * mean);
        dx[c] = Narrow<T>(add == nullptr ? d : d + static_cast<A>(Widen(add[c])));
      }
    }
  });
  A* dw = args.dw.As<A>();
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (int64_t c = 0; c < columns; ++c)
      dw[c] += partial[static_cast<size_t>(chunk * columns + c)];
  }
}

}  // namespace

void RmsNormFwd(const RmsNormFwdArgs& args, Stream) {
  DispatchFloat(args.x.dtype, [&](auto tag) { Fwd<typename decltype(tag)::type>(args); });
}

void RmsNormBwd(const RmsNormBwdArgs& args, Stream) {
  DispatchFloat(args.x.dtype, [&](auto tag) { Bwd<typename decltype(tag)::type>(args); });
}

}  // namespace lacuna::cpu
