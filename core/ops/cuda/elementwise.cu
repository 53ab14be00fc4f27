// Elementwise kernels. A thread takes kCount = 8 neighbouring elements: 16 bytes of bf16, two times
// 16 of f32. Tensors that do not start at a multiple of 16 bytes (rows of odd width) and the last
// elements go one by one.
#include "core/cuda/vector.cuh"
#include "core/ops/elementwise.h"

namespace lacuna::cuda {
namespace {

constexpr int kCount = 8;

template <class F, class Y, class... X>
__global__ void MapPacks(F f, int64_t packs, Y* y, const X*... x) {
  for (int64_t i = GlobalIndex(); i < packs; i += GridSize()) {
    Pack<Y, kCount> out;
    [&](auto... in) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) out.value[k] = f(in.value[k]...);
    }(LoadPack<kCount>(x + i * kCount)...);
    StorePack(y + i * kCount, out);
  }
}

template <class F, class Y, class... X>
__global__ void MapElements(F f, int64_t begin, int64_t end, Y* y, const X*... x) {
  for (int64_t i = begin + GlobalIndex(); i < end; i += GridSize()) y[i] = f(x[i]...);
}

// y[i] = f(x[i]...)
template <class F, class Y, class... X>
void Map(int64_t n, Stream stream, F f, Y* y, const X*... x) {
  int64_t done = 0;
  if (IsAligned(y) && (IsAligned(x) && ...)) {
    done = n / kCount * kCount;
    Launch(MapPacks<F, Y, X...>, done / kCount, stream, f, done / kCount, y, x...);
  }
  Launch(MapElements<F, Y, X...>, n - done, stream, f, done, n, y, x...);
}

template <class T>
struct Sum {
  __device__ T operator()(T a, T b) const { return Store<T>(Load(a) + Load(b)); }
};
template <class T>
struct Constant {
  T value;
  __device__ T operator()() const { return value; }
};
template <class From, class To>
struct Convert {
  __device__ To operator()(From x) const { return Store<To>(Load(x)); }
};
template <class X, class Y>
struct SigmoidOf {
  __device__ Y operator()(X x) const { return Store<Y>(1.0f / (1.0f + expf(-Load(x)))); }
};
template <class X, class Y>
struct SigmoidGradient {
  __device__ X operator()(Y y, Y dy) const {
    const float s = Load(y);
    return Store<X>(Load(dy) * s * (1.0f - s));
  }
};

// f(X, Y): the dtype of x and the one of y, which is X or f32.
template <class F>
void DispatchGate(DType x, DType y, F&& f) {
  DispatchDeviceFloat(x, [&](auto from) {
    if (y == x) return f(from, from);
    return f(from, std::type_identity<float>{});
  });
}

template <class T>
T HostValue(double value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return BFloat16(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

}  // namespace

void Add(const AddArgs& args, Stream stream) {
  DispatchDeviceAny(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Map(args.y.numel(), stream, Sum<T>{}, args.y.As<T>(), args.a.As<const T>(),
        args.b.As<const T>());
  });
}

void Fill(const FillArgs& args, Stream stream) {
  DispatchDeviceAny(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Map(args.y.numel(), stream, Constant<T>{HostValue<T>(args.value)}, args.y.As<T>());
  });
}

void Cast(const CastArgs& args, Stream stream) {
  DispatchDeviceAny(args.x.dtype, [&](auto from) {
    DispatchDeviceAny(args.y.dtype, [&](auto to) {
      using From = typename decltype(from)::type;
      using To = typename decltype(to)::type;
      Map(args.y.numel(), stream, Convert<From, To>{}, args.y.As<To>(), args.x.As<const From>());
    });
  });
}

void SigmoidFwd(const SigmoidFwdArgs& args, Stream stream) {
  DispatchGate(args.x.dtype, args.y.dtype, [&](auto from, auto to) {
    using X = typename decltype(from)::type;
    using Y = typename decltype(to)::type;
    Map(args.y.numel(), stream, SigmoidOf<X, Y>{}, args.y.As<Y>(), args.x.As<const X>());
  });
}

void SigmoidBwd(const SigmoidBwdArgs& args, Stream stream) {
  DispatchGate(args.dx.dtype, args.y.dtype, [&](auto from, auto to) {
    using X = typename decltype(from)::type;
    using Y = typename decltype(to)::type;
    Map(args.y.numel(), stream, SigmoidGradient<X, Y>{}, args.dx.As<X>(), args.y.As<const Y>(),
        args.dy.As<const Y>());
  });
}

}  // namespace lacuna::cuda
