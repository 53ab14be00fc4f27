// Rotary embedding. A block takes a token (and every gridDim.x-th after it); its threads walk the
// packs of all heads in the order of memory. A pack of rotated dims reads its partner half a rotary
// width away, too, which another thread has as its own (a hit in the cache):
//
//   head of D dims   [ 0 .. R/2 | R/2 .. R | R .. D ]        V elements a pack
//   a pack           a c - b s  | b c + a s | as it is
//
// One pack a thread and turn: threads that hold several packs far apart are slower (measured).
// In place only the rotated pairs are touched, each by one thread, so that nobody reads what another
// has written.
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

struct Sizes {
  int heads, width, half;
  float inverse_packs;  // 1 / packs of a head
};

template <int kCount, class T>
__device__ void RotateInPlace(T* y, const float* cos, const float* sin, const Sizes& s,
                              float direction) {
  const int pairs = s.half / kCount;
  for (int i = threadIdx.x; i < s.heads * pairs; i += blockDim.x) {
    const int head = i / pairs, d = (i - head * pairs) * kCount, at = head * s.width + d;
    RotatePack<kCount>(y + at, y + at, cos + d, sin + d, s.half, direction);
  }
}

template <int kCount, class T>
__device__ void RotateInto(const T* __restrict__ x, T* __restrict__ y, const float* cos,
                           const float* sin, const Sizes& s, float direction) {
  const int packs = s.width / kCount, pairs = s.half / kCount;
  for (int p = threadIdx.x; p < s.heads * packs; p += blockDim.x) {
    // p / packs: exact, as p < 2^22 and the quotient is at least 1 / (2 packs) off a whole number.
    const int head = static_cast<int>((static_cast<float>(p) + 0.5f) * s.inverse_packs),
              item = p - head * packs;
    auto own = LoadPack<kCount>(x + p * kCount);
    if (item < 2 * pairs) {
      const bool upper = item >= pairs;
      const auto other = LoadPack<kCount>(x + (upper ? p - pairs : p + pairs) * kCount);
      const int d = (upper ? item - pairs : item) * kCount;
      const auto c = LoadPack<kCount>(cos + d), sines = LoadPack<kCount>(sin + d);
      const float sign = upper ? direction : -direction;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        own.value[k] = Store<T>(Load(own.value[k]) * c.value[k] +
                                Load(other.value[k]) * (sign * sines.value[k]));
      }
    }
    StorePack(y + p * kCount, own);
  }
}

template <int kCount, class T>
__device__ void PutNan(T* y, const Sizes& s) {
  for (int i = threadIdx.x; i < s.heads * s.width; i += blockDim.x) y[i] = Store<T>(nanf(""));
}

template <int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    RopeKernel(const T* x, const int32_t* positions, const float* cos, const float* sin, T* y,
               int64_t rows, Sizes s, int64_t table, float direction) {
  for (int64_t n = blockIdx.x; n < rows; n += gridDim.x) {
    const int64_t position = positions[n], row = n * s.heads * s.width;
    const float *c = cos + position * s.half, *sines = sin + position * s.half;
    if (position < 0 || position >= table) {
      PutNan<kCount>(y + row, s);
    } else if (x == y) {
      RotateInPlace<kCount>(y + row, c, sines, s, direction);
    } else {
      RotateInto<kCount>(x + row, y + row, c, sines, s, direction);
    }
  }
}

}  // namespace

void Rope(const RopeArgs& args, Stream stream) {
  const int64_t rows = args.x.dim(0);
  const int width = static_cast<int>(args.x.dim(2)), half = static_cast<int>(args.cos.dim(1));
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool packs = Packable<T>(args.x.data, width) && Packable<T>(args.y.data, width) &&
                       half % kVector<T> == 0;
    const auto kernel = packs ? RopeKernel<kVector<T>, T> : RopeKernel<1, T>;
    const Sizes sizes{static_cast<int>(args.x.dim(1)), width, half,
                      static_cast<float>(packs ? kVector<T> : 1) / static_cast<float>(width)};
    LaunchGrid(kernel, dim3(static_cast<unsigned>(std::min<int64_t>(rows, 1 << 20))), kThreads, 0,
               stream, args.x.As<const T>(), args.positions.As<const int32_t>(),
               args.cos.As<const float>(), args.sin.As<const float>(), args.y.As<T>(), rows, sizes,
               args.cos.dim(0), args.inverse ? -1.0f : 1.0f);
  });
}

}  // namespace lacuna::cuda
