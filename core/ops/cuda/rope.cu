// Rotary embedding. A block takes a token (and every gridDim.x-th after it) with all its heads: its
// threads first copy the dims that pass through, then rotate packs of pairs (i, i + R/2).
//
//   head of D dims   [ 0 .. R/2 | R/2 .. R | R .. D ]
//   packs            [ R/2 / V pairs       | (D - R) / V copies ]        V elements a pack
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
  const auto cosines = LoadPack<kCount>(cos), sines = LoadPack<kCount>(sin);
  Pack<T, kCount> first, second;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const float u = Load(a.value[k]), v = Load(b.value[k]), c = cosines.value[k],
                s = direction * sines.value[k];
    first.value[k] = Store<T>(u * c - v * s);
    second.value[k] = Store<T>(v * c + u * s);
  }
  StorePack(y, first);
  StorePack(y + half, second);
}

template <int kCount, class T>
__device__ void RotateRow(const T* x, T* y, const float* cos, const float* sin, bool inside,
                          int heads, int width, int half, float direction) {
  const int pairs = half / kCount;
  for (int i = threadIdx.x; i < heads * pairs; i += blockDim.x) {
    const int head = i / pairs, d = (i - head * pairs) * kCount, at = head * width + d;
    if (inside) {
      RotatePack<kCount>(x + at, y + at, cos + d, sin + d, half, direction);
    } else {
      for (int k = 0; k < kCount; ++k) y[at + k] = y[at + half + k] = Store<T>(nanf(""));
    }
  }
}

// The dims that pass through. Packs are read kTogether at a time before any is written.
template <int kCount, class T>
__device__ void CopyRow(const T* x, T* y, int heads, int width, int rotary) {
  constexpr int kTogether = 4;
  const int copies = (width - rotary) / kCount, all = heads * copies;
  for (int first = threadIdx.x; first < all; first += kTogether * blockDim.x) {
    Pack<T, kCount> packs[kTogether];
    int at[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int i = first + u * static_cast<int>(blockDim.x), head = i / copies;
      at[u] = head * width + rotary + (i - head * copies) * kCount;
      if (i < all) packs[u] = LoadPack<kCount>(x + at[u]);
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      if (first + u * static_cast<int>(blockDim.x) < all) StorePack(y + at[u], packs[u]);
    }
  }
}

template <int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    RopeKernel(const T* x, const int32_t* positions, const float* cos, const float* sin, T* y,
               int64_t rows, int heads, int width, int half, int64_t table, float direction) {
  for (int64_t n = blockIdx.x; n < rows; n += gridDim.x) {
    const int64_t position = positions[n], row = n * heads * width;
    const bool inside = position >= 0 && position < table;
    const int64_t angles = inside ? position * half : 0;
    if (x != y && width > 2 * half) CopyRow<kCount>(x + row, y + row, heads, width, 2 * half);
    RotateRow<kCount>(x + row, y + row, cos + angles, sin + angles, inside, heads, width, half,
                      direction);
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
