// AdamW: one pass over master, gradient and moments, kCount neighbouring elements a thread. The
// gradient's factor is read by every thread; NaN ends the kernel before anything is written.
#include "core/cuda/vector.cuh"
#include "core/ops/adamw.h"

namespace lacuna::cuda {
namespace {

constexpr int kCount = 8;

template <class T, class M>
struct Buffers {
  float* master;
  T* value;
  const float* grad;
  M *m, *v;
};

template <int kPack, class T, class M>
__device__ void UpdatePack(const Buffers<T, M>& b, int64_t at, const AdamWFactors<float>& f,
                           float scale) {
  auto p = LoadPack<kPack>(b.master + at);
  const auto g = LoadPack<kPack>(b.grad + at);
  auto m = LoadFloats<kPack>(b.m + at), v = LoadFloats<kPack>(b.v + at);
  Floats<kPack> value;
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    const float gradient = scale * g.value[k];
    const float first = f.beta1 * m.value[k] + (1.0f - f.beta1) * gradient;
    const float second = f.beta2 * v.value[k] + (1.0f - f.beta2) * gradient * gradient;
    m.value[k] = first;
    v.value[k] = second;
    p.value[k] -= f.step * first / (sqrtf(second * f.correction) + f.eps) + f.decay * p.value[k];
    value.value[k] = p.value[k];
  }
  StoreFloats(b.m + at, m);
  StoreFloats(b.v + at, v);
  StorePack(b.master + at, p);
  if (reinterpret_cast<void*>(b.value) != b.master) StoreFloats(b.value + at, value);
}

template <class T, class M>
__global__ void AdamWKernel(Buffers<T, M> b, int64_t n, bool packs, const double* gradient_scale,
                            AdamWFactors<float> f) {
  const float scale = static_cast<float>(*gradient_scale);
  if (isnan(scale)) return;
  const int64_t whole = packs ? n / kCount : 0;
  for (int64_t i = GlobalIndex(); i < whole; i += GridSize())
    UpdatePack<kCount>(b, i * kCount, f, scale);
  for (int64_t i = whole * kCount + GlobalIndex(); i < n; i += GridSize())
    UpdatePack<1>(b, i, f, scale);
}

template <class T, class M>
void Update(const AdamWArgs& args, Stream stream) {
  const Buffers<T, M> buffers{args.master.As<float>(), args.value.As<T>(),
                              args.grad.As<const float>(), args.m.As<M>(), args.v.As<M>()};
  const bool packs = IsAligned(buffers.master) && IsAligned(buffers.value) &&
                     IsAligned(buffers.grad) && IsAligned(buffers.m) && IsAligned(buffers.v);
  const int64_t n = args.master.numel();
  Launch(AdamWKernel<T, M>, packs ? (n + kCount - 1) / kCount : n, stream, buffers, n, packs,
         args.gradient_scale.As<const double>(), AdamWFactors<float>::Of(args));
}

}  // namespace

void AdamW(const AdamWArgs& args, Stream stream) {
  DispatchDeviceFloat(args.value.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (args.m.dtype == DType::kBF16) {
      Update<T, BFloat16>(args, stream);
    } else {
      Update<T, float>(args, stream);
    }
  });
}

}  // namespace lacuna::cuda
