// Elementwise, a pack of 16 bytes a thread where the addresses allow it; what is left over at the
// end, and everything where they do not, one element a thread.
#include "core/cuda/vector.cuh"
#include "nsa/phi_activation.h"

namespace lacuna::cuda {
namespace {

struct Silu {
  __device__ static float Sigmoid(float a) { return 1.0f / (1.0f + expf(-a)); }
  __device__ static float Value(float a) { return a * Sigmoid(a); }
  __device__ static float Slope(float a) {
    const float s = Sigmoid(a);
    return s * (1.0f + a * (1.0f - s));
  }
};

struct GeluTanh {
  static constexpr float kScale = 0.7978845608028654f;  // sqrt(2 / pi)
  static constexpr float kCubic = 0.044715f;
  __device__ static float Inner(float a) { return tanhf(kScale * (a + kCubic * a * a * a)); }
  __device__ static float Value(float a) { return 0.5f * a * (1.0f + Inner(a)); }
  __device__ static float Slope(float a) {
    const float t = Inner(a);
    return 0.5f * (1.0f + t) + 0.5f * a * (1.0f - t * t) * kScale * (1.0f + 3.0f * kCubic * a * a);
  }
};

// y = f(a), or dy f'(a) where dy is given; elements [begin, begin + packs * kCount).
template <class Activation, int kCount, class T>
__global__ void ActivationKernel(const T* a, const T* dy, T* y, int64_t begin, int64_t packs) {
  for (int64_t p = GlobalIndex(); p < packs; p += GridSize()) {
    const int64_t at = begin + p * kCount;
    const auto x = LoadPack<kCount>(a + at);
    Pack<T, kCount> out;
    if (dy == nullptr) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) out.value[k] = Store<T>(Activation::Value(Load(x.value[k])));
    } else {
      const auto d = LoadPack<kCount>(dy + at);
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        out.value[k] = Store<T>(Load(d.value[k]) * Activation::Slope(Load(x.value[k])));
    }
    StorePack(y + at, out);
  }
}

template <class Activation, class T>
void Run(const T* a, const T* dy, T* y, int64_t n, Stream stream) {
  const bool packed = IsAligned(a) && IsAligned(dy) && IsAligned(y);
  const int64_t packs = packed ? n / kVector<T> : 0, done = packs * kVector<T>;
  Launch(ActivationKernel<Activation, kVector<T>, T>, packs, stream, a, dy, y, int64_t{0}, packs);
  Launch(ActivationKernel<Activation, 1, T>, n - done, stream, a, dy, y, done, n - done);
}

template <class T>
void RunKind(PhiActivation kind, const T* a, const T* dy, T* y, int64_t n, Stream stream) {
  kind == PhiActivation::kSilu ? Run<Silu>(a, dy, y, n, stream)
                               : Run<GeluTanh>(a, dy, y, n, stream);
}

}  // namespace

void PhiActivationFwd(const PhiActivationFwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    RunKind<T>(args.kind, args.a.As<T>(), nullptr, args.y.As<T>(), args.a.numel(), stream);
  });
}

void PhiActivationBwd(const PhiActivationBwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    RunKind<T>(args.kind, args.a.As<T>(), args.dy.As<T>(), args.da.As<T>(), args.a.numel(), stream);
  });
}

}  // namespace lacuna::cuda
