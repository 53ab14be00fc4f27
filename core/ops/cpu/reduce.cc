#include "core/ops/reduce.h"

#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

template <class T>
double SumOfSquaresOf(const T* x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const double value = Widen(x[i]);
    sum += value * value;
  }
  return sum;
}

}  // namespace

void SumOfSquares(const SumOfSquaresArgs& args, Stream) {
  constexpr int64_t kChunk = 16384;
  const int64_t n = args.x.numel();
  std::vector<double> partial(static_cast<size_t>((n + kChunk - 1) / kChunk));
  DispatchFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* x = args.x.As<T>();
    ParallelForChunks(n, kChunk, 1, [&](int64_t begin, int64_t end) {
      partial[static_cast<size_t>(begin / kChunk)] = SumOfSquaresOf(x + begin, end - begin);
    });
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  *args.result.As<double>() = total;
}

}  // namespace lacuna::cpu
