// Rotary embedding. A block takes a token (and every gridDim.x-th after it); its threads walk the
// work items of all heads, an item being one pack of rotated pairs (i, i + R/2) or one pack of dims
// that pass through:
//
//   head of D dims   [ 0 .. R/2 | R/2 .. R | R .. D ]
//   items            [ R/2 / V pair packs  | (D - R) / V copies ]        V elements a pack
//
// Positions outside the table give NaN, which the step's check of the gradients reports.
#include "core/cuda/vector.cuh"
#include "core/ops/rope.h"

namespace lacuna::cuda {
namespace {

template <int kCount, class T>
__device__ void RotatePack(const T* x, T* y, const float* cos, const float* sin, int half,
                           float direction) {
  const auto a = LoadPack<kCount>(x), b = LoadPack<kCount>(x + half);
  Pack<T, kCount> first, second;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const float u = Load(a.value[k]), v = Load(b.value[k]), s = direction * sin[k];
    first.value[k] = Store<T>(u * cos[k] - v * s);
    second.value[k] = Store<T>(v * cos[k] + u * s);
  }
  StorePack(y, first);
  StorePack(y + half, second);
}

template <int kCount, class T>
__global__ void RopeKernel(const T* x, const int32_t* positions, const float* cos, const float* sin,
                           T* y, int64_t rows, int heads, int width, int half, int64_t table,
                           float direction) {
  const int pairs = half / kCount, items = pairs + (width - 2 * half) / kCount;
  for (int64_t n = blockIdx.x; n < rows; n += gridDim.x) {
    const int64_t position = positions[n];
    const bool inside = position >= 0 && position < table;
    const float *c = cos + position * half, *s = sin + position * half;
    for (int i = threadIdx.x; i < heads * items; i += blockDim.x) {
      const int head = i / items, item = i - head * items;
      const int64_t at = (n * heads + head) * width;
      if (item >= pairs) {
        const int64_t d = at + 2 * half + (item - pairs) * kCount;
        if (x != y) StorePack(y + d, LoadPack<kCount>(x + d));
      } else if (inside) {
        const int d = item * kCount;
        RotatePack<kCount>(x + at + d, y + at + d, c + d, s + d, half, direction);
      } else {
        for (int k = 0; k < kCount; ++k) {
          y[at + item * kCount + k] = Store<T>(nanf(""));
          y[at + half + item * kCount + k] = Store<T>(nanf(""));
        }
      }
    }
  }
}

}  // namespace

void Rope(const RopeArgs& args, Stream stream) {
  const int64_t rows = args.x.dim(0);
  const int heads = static_cast<int>(args.x.dim(1)), width = static_cast<int>(args.x.dim(2)),
            half = static_cast<int>(args.cos.dim(1));
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool packs = Packable<T>(args.x.data, width) && Packable<T>(args.y.data, width) &&
                       half % kVector<T> == 0;
    const auto kernel = packs ? RopeKernel<kVector<T>, T> : RopeKernel<1, T>;
    LaunchGrid(kernel, dim3(static_cast<unsigned>(std::min<int64_t>(rows, 1 << 20))), kThreads, 0,
               stream, args.x.As<const T>(), args.positions.As<const int32_t>(),
               args.cos.As<const float>(), args.sin.As<const float>(), args.y.As<T>(), rows, heads,
               width, half, args.cos.dim(0), args.inverse ? -1.0f : 1.0f);
  });
}

}  // namespace lacuna::cuda
