// Cross-entropy. A block takes a row: one reading finds the maximum and the sum of exponentials
// (online, a pair a thread, merged over the block), a second one writes the gradient over the
// logits. With a gradient, the first packs of the row stay in shared memory for the second reading,
// as many as fit; the rest (nothing up to 100k words of bf16) comes out of L2, where few rows are at
// once.
//
//   (m, s) + x  ->  m' = max(m, x),  s' = s exp(m - m') + exp(x - m')
//
// A target outside the vocabulary gives a loss of NaN, which the step's check reports.
#include "core/cuda/reduce.cuh"
#include "core/cuda/vector.cuh"
#include "core/ops/cross_entropy.h"

namespace lacuna::cuda {
namespace {

constexpr int kRowThreads = 1024;
constexpr int64_t kKeptBytes = 200 * 1024;  // one row a multiprocessor

template <int kCount, class T>
__global__ void __launch_bounds__(kRowThreads)
    CrossEntropyKernel(T* logits, const int32_t* targets, float* loss, int64_t vocabulary,
                       int64_t kept, bool with_gradient, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];  // the row's first `kept` elements
  __shared__ float scratch[kWarp];
  T* const keep = reinterpret_cast<T*>(memory);
  T* const row = logits + int64_t{blockIdx.x} * vocabulary;
  const int64_t target = targets[blockIdx.x];
  constexpr int64_t kStep = int64_t{kRowThreads} * kCount;
  if (target < 0) {
    if (threadIdx.x == 0) loss[blockIdx.x] = 0;
    if (!with_gradient) return;
    Pack<T, kCount> zero;
#pragma unroll
    for (int k = 0; k < kCount; ++k) zero.value[k] = Store<T>(0.0f);
    for (int64_t v = threadIdx.x * kCount; v < vocabulary; v += kStep) StorePack(row + v, zero);
    return;
  }
  float top = -INFINITY, sum = 0;
#pragma unroll 4
  for (int64_t v = threadIdx.x * kCount; v < vocabulary; v += kStep) {
    const auto pack = LoadPack<kCount>(row + v);
    if (v < kept) StorePack(keep + v, pack);
    float here = Load(pack.value[0]);
#pragma unroll
    for (int k = 1; k < kCount; ++k) here = fmaxf(here, Load(pack.value[k]));
    const float above = fmaxf(top, here);
    float added = 0;
#pragma unroll
    for (int k = 0; k < kCount; ++k) added += __expf(Load(pack.value[k]) - above);
    sum = sum * __expf(top - above) + added;
    top = above;
  }
  const float row_top = BlockReduce(top, scratch, -INFINITY, Max{});
  // A thread without elements has top = -inf and sum = 0.
  const float row_sum = BlockReduce(top == -INFINITY ? 0.0f : sum * __expf(top - row_top), scratch);
  const bool inside = target < vocabulary;
  const float at_target = inside ? Load(row[target]) : nanf("");
  if (threadIdx.x == 0) loss[blockIdx.x] = logf(row_sum) + row_top - at_target;
  if (!with_gradient) return;
  __syncthreads();  // all have read row[target]
  const float factor = inside ? scale / row_sum : nanf("");
#pragma unroll 4
  for (int64_t v = threadIdx.x * kCount; v < vocabulary; v += kStep) {
    // Each thread reads back what it kept itself.
    auto pack = v < kept ? LoadPack<kCount>(keep + v) : LoadPack<kCount>(row + v);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float p = factor * __expf(Load(pack.value[k]) - row_top);
      pack.value[k] = Store<T>(v + k == target ? p - scale : p);
    }
    StorePack(row + v, pack);
  }
}

}  // namespace

void CrossEntropy(const CrossEntropyArgs& args, Stream stream) {
  const int64_t rows = args.logits.dim(0), vocabulary = args.logits.dim(1);
  DispatchDeviceFloat(args.logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto kernel = Packable<T>(args.logits.data, vocabulary)
                            ? CrossEntropyKernel<kVector<T>, T>
                            : CrossEntropyKernel<1, T>;
    const int64_t size = static_cast<int64_t>(sizeof(T)),
                  kept = args.with_gradient ? std::min(vocabulary, kKeptBytes / size) : 0;
    LaunchGrid(kernel, dim3(static_cast<unsigned>(rows)), kRowThreads, kept * size, stream,
               args.logits.As<T>(), args.targets.As<const int32_t>(), args.loss.As<float>(),
               vocabulary, kept, args.with_gradient, static_cast<float>(args.scale));
  });
}

}  // namespace lacuna::cuda
