#include "core/ops/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/cpu/math.h"
#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

template <class T>
ComputeType<T> Row(T* logits, int64_t vocabulary, int32_t target, bool with_gradient,
                   double scale) {
  using A = ComputeType<T>;
  A top = -std::numeric_limits<A>::infinity();
#pragma omp simd reduction(max : top)
  for (int64_t v = 0; v < vocabulary; ++v) top = std::max(top, static_cast<A>(Widen(logits[v])));
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t v = 0; v < vocabulary; ++v) sum += Exp(static_cast<A>(Widen(logits[v])) - top);
  const A loss = std::log(sum) + top - static_cast<A>(Widen(logits[target]));
  if (with_gradient) {
    const A factor = static_cast<A>(scale) / sum;
    const A at_target =
        factor * Exp(static_cast<A>(Widen(logits[target])) - top) - static_cast<A>(scale);
    for (int64_t v = 0; v < vocabulary; ++v)
      logits[v] = Narrow<T>(factor * Exp(static_cast<A>(Widen(logits[v])) - top));
    logits[target] = Narrow<T>(at_target);
  }
  return loss;
}

}  // namespace

void CrossEntropy(const CrossEntropyArgs& args, Stream) {
  const int64_t vocabulary = args.logits.dim(1);
  const int32_t* targets = args.targets.As<int32_t>();
  DispatchFloat(args.logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = ComputeType<T>;
    ParallelForChunks(args.logits.dim(0), 4, 20 * vocabulary, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        T* logits = args.logits.As<T>() + n * vocabulary;
        LACUNA_CHECK(targets[n] < vocabulary,
                     "cross_entropy: row {} has target {}, the vocabulary has {}", n, targets[n],
                     vocabulary);
        A& loss = args.loss.As<A>()[n];
        if (targets[n] < 0) {
          loss = 0;
          if (args.with_gradient) std::fill(logits, logits + vocabulary, Narrow<T>(0.0f));
        } else {
          loss = Row(logits, vocabulary, targets[n], args.with_gradient, args.scale);
        }
      }
    });
  });
}

}  // namespace lacuna::cpu
