#include "core/ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

// Sum of f over the elements, chunk by chunk.
template <class F>
double Reduce(const TensorRef& x, F&& f) {
  constexpr int64_t kChunk = 16384;
  const int64_t n = x.numel();
  std::vector<double> partial(static_cast<size_t>((n + kChunk - 1) / kChunk));
  DispatchFloat(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* data = x.As<T>();
    ParallelForChunks(n, kChunk, 1, [&](int64_t begin, int64_t end) {
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = begin; i < end; ++i) sum += f(static_cast<double>(Widen(data[i])));
      partial[static_cast<size_t>(begin / kChunk)] = sum;
    });
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

}  // namespace

void SumOfSquares(const SumOfSquaresArgs& args, Stream) {
  *args.result.As<double>() = Reduce(args.x, [](double x) { return x * x; });
}

void Sum(const SumArgs& args, Stream) {
  const double sum = args.scale * Reduce(args.x, [](double x) { return x; });
  DispatchAccumulation(args.result.dtype, [&](auto tag) {
    using A = typename decltype(tag)::type;
    *args.result.As<A>() = static_cast<A>(sum);
  });
}

void SumParts(const SumPartsArgs& args, Stream) {
  const int64_t parts = args.x.dim(0), n = args.x.dim(1);
  DispatchFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* x = args.x.As<T>();
    T* y = args.y.As<T>();
    ParallelForChunks(n, 16384, parts, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        ComputeType<T> sum = Widen(x[i]);
        for (int64_t p = 1; p < parts; ++p) sum += Widen(x[p * n + i]);
        y[i] = Narrow<T>(sum);
      }
    });
  });
}

void ClipFactor(const ClipFactorArgs& args, Stream) {
  double total = 0, loss = 0;
  for (int64_t i = 0; i < args.squares.numel(); ++i) total += args.squares.As<double>()[i];
  DispatchAccumulation(args.loss.dtype, [&](auto tag) {
    loss = static_cast<double>(*args.loss.As<typename decltype(tag)::type>());
  });
  double& factor = *args.factor.As<double>();
  if (!std::isfinite(total) || !std::isfinite(loss)) {
    factor = std::numeric_limits<double>::quiet_NaN();
  } else {
    factor = args.clip_norm == 0
                 ? 1.0
                 : std::min(1.0, args.clip_norm / std::max(std::sqrt(total), 1e-30));
  }
}

}  // namespace lacuna::cpu
