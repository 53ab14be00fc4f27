#include "core/ops/elementwise.h"

#include "core/cpu/math.h"
#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

constexpr int64_t kChunk = 16384;

// f(i) for every element, in parallel chunks.
template <class F>
void ForEach(int64_t n, F&& f) {
  ParallelForChunks(n, kChunk, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

}  // namespace

void Add(const AddArgs& args, Stream) {
  DispatchFloat(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T *a = args.a.As<T>(), *b = args.b.As<T>();
    T* y = args.y.As<T>();
    ForEach(args.y.numel(), [=](int64_t i) { y[i] = Narrow<T>(Widen(a[i]) + Widen(b[i])); });
  });
}

void Fill(const FillArgs& args, Stream) {
  DispatchAny(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* y = args.y.As<T>();
    const T value = Narrow<T>(args.value);
    ForEach(args.y.numel(), [=](int64_t i) { y[i] = value; });
  });
}

void Cast(const CastArgs& args, Stream) {
  DispatchAny(args.x.dtype, [&](auto from) {
    DispatchAny(args.y.dtype, [&](auto to) {
      using From = typename decltype(from)::type;
      using To = typename decltype(to)::type;
      const From* x = args.x.As<From>();
      To* y = args.y.As<To>();
      ForEach(args.y.numel(), [=](int64_t i) { y[i] = Narrow<To>(Widen(x[i])); });
    });
  });
}

namespace {

// f(X, Y): the dtype of x and the one of y, which is X or its accumulation type.
template <class F>
void DispatchGate(DType x, DType y, F&& f) {
  DispatchFloat(x, [&](auto from) {
    using X = typename decltype(from)::type;
    if (y == x) return f(from, from);
    return f(from, std::type_identity<ComputeType<X>>{});
  });
}

}  // namespace

void SigmoidFwd(const SigmoidFwdArgs& args, Stream) {
  DispatchGate(args.x.dtype, args.y.dtype, [&](auto from, auto to) {
    using X = typename decltype(from)::type;
    using Y = typename decltype(to)::type;
    const X* x = args.x.As<X>();
    Y* y = args.y.As<Y>();
    ForEach(args.y.numel(), [=](int64_t i) {
      y[i] = Narrow<Y>(Sigmoid(static_cast<ComputeType<X>>(Widen(x[i]))));
    });
  });
}

void SigmoidBwd(const SigmoidBwdArgs& args, Stream) {
  DispatchGate(args.dx.dtype, args.y.dtype, [&](auto from, auto to) {
    using X = typename decltype(from)::type;
    using Y = typename decltype(to)::type;
    using A = ComputeType<X>;
    const Y *y = args.y.As<Y>(), *dy = args.dy.As<Y>();
    X* dx = args.dx.As<X>();
    ForEach(args.y.numel(), [=](int64_t i) {
      const A s = Widen(y[i]);
      dx[i] = Narrow<X>(static_cast<A>(Widen(dy[i])) * s * (A(1) - s));
    });
  });
}

}  // namespace lacuna::cpu
