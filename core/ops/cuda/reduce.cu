// Sums over whole tensors are in f64. Block b sums the elements b kThreads + t, + gridDim kThreads, ...
// of its threads t; a second kernel of one block sums the blocks in order. The number of blocks
// follows from the number of elements and of multiprocessors: the same bits on the same card.
#include "core/cuda/memory.h"
#include "core/cuda/reduce.cuh"
#include "core/cuda/runtime.h"
#include "core/cuda/vector.cuh"
#include "core/ops/reduce.h"

namespace lacuna::cuda {
namespace {

constexpr int kCount = 8;

struct Square {
  __device__ float operator()(float x) const { return x * x; }
};
struct Value {
  __device__ float operator()(float x) const { return x; }
};

// A thread sums a pack in f32, packs in f64: f64 arithmetic is kept off the memory's path.
template <class F, class T>
__global__ void PartialKernel(const T* x, int64_t n, bool packs, F f, double* partial) {
  __shared__ double scratch[kWarp];
  double sum = 0;
  const int64_t whole = packs ? n / kCount : 0;
  for (int64_t i = GlobalIndex(); i < whole; i += GridSize()) {
    const auto pack = LoadPack<kCount>(x + i * kCount);
    float of_pack = 0;
#pragma unroll
    for (int k = 0; k < kCount; ++k) of_pack += f(Load(pack.value[k]));
    sum += of_pack;
  }
  for (int64_t i = whole * kCount + GlobalIndex(); i < n; i += GridSize()) sum += f(Load(x[i]));
  sum = BlockReduce(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

template <class R>
__global__ void FinishKernel(const double* partial, int parts, double scale, R* result) {
  __shared__ double scratch[kWarp];
  double sum = 0;
  for (int i = threadIdx.x; i < parts; i += blockDim.x) sum += partial[i];
  sum = BlockReduce(sum, scratch);
  if (threadIdx.x == 0) *result = static_cast<R>(scale * sum);
}

__global__ void ClipFactorKernel(const double* squares, int64_t n, const float* loss,
                                 double clip_norm, double* factor) {
  __shared__ double scratch[kWarp];
  double total = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) total += squares[i];
  total = BlockReduce(total, scratch);
  if (threadIdx.x > 0) return;
  if (!isfinite(total) || !isfinite(*loss)) {
    *factor = nan("");
  } else {
    *factor = clip_norm == 0 ? 1.0 : fmin(1.0, clip_norm / fmax(sqrt(total), 1e-30));
  }
}

// A thread sums kCount neighbours of every part.
template <int kCount, class T>
__global__ void SumPartsKernel(const T* x, int64_t parts, int64_t n, T* y) {
  for (int64_t i = GlobalIndex() * kCount; i < n; i += GridSize() * kCount) {
    Floats<kCount> sum = LoadFloats<kCount>(x + i);
    for (int64_t p = 1; p < parts; ++p) {
      const auto part = LoadFloats<kCount>(x + p * n + i);
#pragma unroll
      for (int k = 0; k < kCount; ++k) sum.value[k] += part.value[k];
    }
    StoreFloats(y + i, sum);
  }
}

template <class F, class R>
void Reduce(const TensorRef& x, F f, double scale, R* result, Stream stream) {
  const int64_t n = x.numel();
  const int parts = static_cast<int>(std::clamp<int64_t>(
      (n + kThreads * kCount - 1) / (kThreads * kCount), 1, 8 * NumMultiprocessors(stream)));
  const Workspace partial(parts * static_cast<int64_t>(sizeof(double)), stream);
  DispatchDeviceFloat(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    LaunchGrid(PartialKernel<F, T>, dim3(static_cast<unsigned>(parts)), kThreads, 0, stream,
               x.As<const T>(), n, IsAligned(x.data), f, partial.As<double>());
  });
  LaunchGrid(FinishKernel<R>, dim3(1), kThreads, 0, stream, partial.As<const double>(), parts,
             scale, result);
}

}  // namespace

void SumOfSquares(const SumOfSquaresArgs& args, Stream stream) {
  Reduce(args.x, Square{}, 1.0, args.result.As<double>(), stream);
}

void Sum(const SumArgs& args, Stream stream) {
  Reduce(args.x, Value{}, args.scale, args.result.As<float>(), stream);
}

void SumParts(const SumPartsArgs& args, Stream stream) {
  const int64_t parts = args.x.dim(0), n = args.x.dim(1);
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (Packable<T>(args.x.data, n) && IsAligned(args.y.data)) {
      Launch(SumPartsKernel<kVector<T>, T>, n / kVector<T>, stream, args.x.As<const T>(), parts, n,
             args.y.As<T>());
    } else {
      Launch(SumPartsKernel<1, T>, n, stream, args.x.As<const T>(), parts, n, args.y.As<T>());
    }
  });
}

void ClipFactor(const ClipFactorArgs& args, Stream stream) {
  LaunchGrid(ClipFactorKernel, dim3(1), kThreads, 0, stream, args.squares.As<const double>(),
             args.squares.numel(), args.loss.As<const float>(), args.clip_norm,
             args.factor.As<double>());
}

}  // namespace lacuna::cuda
