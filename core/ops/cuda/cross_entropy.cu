// Cross-entropy. A block of all threads takes a row, so that few rows are at once and the second
// reading comes out of L2: the first finds the maximum and the sum of exponentials (online, a pair a
// thread, merged over the block), the second writes the gradient over the logits. A thread reads
// kTogether packs before it uses the first.
//
//   (m, s) + x  ->  m' = max(m, x),  s' = s exp(m - m') + exp(x - m')
//
// Exponentials are powers of two of what is scaled beforehand: one fma and one ex2 each. A target
// outside the vocabulary gives a loss of NaN, which the step's check reports.
#include "core/cuda/reduce.cuh"
#include "core/cuda/vector.cuh"
#include "core/ops/cross_entropy.h"

namespace lacuna::cuda {
namespace {

constexpr int kRowThreads = 1024, kTogether = 4;
constexpr float kLog2E = 1.4426950408889634f;

// f(p, v): the packs of a thread that start at v, kTogether at a time, all read before the first f.
template <int kCount, class T, class Before, class F>
__device__ void ForRow(const T* row, int64_t vocabulary, Before&& before, F&& f) {
  constexpr int64_t kStep = int64_t{kRowThreads} * kCount;
  for (int64_t first = threadIdx.x * kCount; first < vocabulary; first += kTogether * kStep) {
    Pack<T, kCount> packs[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      if (first + u * kStep < vocabulary) packs[u] = LoadPack<kCount>(row + first + u * kStep);
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      if (first + u * kStep < vocabulary) before(packs[u]);
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      if (first + u * kStep < vocabulary) f(packs[u], first + u * kStep);
    }
  }
}

template <int kCount, class T>
__global__ void __launch_bounds__(kRowThreads)
    CrossEntropyKernel(T* logits, const int32_t* targets, float* loss, int64_t vocabulary,
                       bool with_gradient, float scale) {
  __shared__ float scratch[kWarp];
  using P = Pack<T, kCount>;
  T* const row = logits + int64_t{blockIdx.x} * vocabulary;
  const int64_t target = targets[blockIdx.x];
  const auto nothing = [](const P&) {};
  if (target < 0) {
    if (threadIdx.x == 0) loss[blockIdx.x] = 0;
    if (!with_gradient) return;
    P zero;
#pragma unroll
    for (int k = 0; k < kCount; ++k) zero.value[k] = Store<T>(0.0f);
    ForRow<kCount>(row, vocabulary, nothing,
                   [&](const P&, int64_t v) { StorePack(row + v, zero); });
    return;
  }
  float top = -INFINITY, seen = -INFINITY, sum = 0;  // `sum` belongs to `seen`
  ForRow<kCount>(
      row, vocabulary,
      [&](const P& pack) {
        const auto x = Widen(pack);
#pragma unroll
        for (int k = 0; k < kCount; ++k) top = fmaxf(top, x.value[k]);
      },
      [&](const P& pack, int64_t) {
        if (seen != top) {
          sum *= exp2f((seen - top) * kLog2E);
          seen = top;
        }
        const auto x = Widen(pack);
#pragma unroll
        for (int k = 0; k < kCount; ++k) sum += exp2f(fmaf(x.value[k], kLog2E, -top * kLog2E));
      });
  const float row_top = BlockReduce(top, scratch, -INFINITY, Max{});
  // A thread without elements has top = -inf and sum = 0.
  const float row_sum =
      BlockReduce(top == -INFINITY ? 0.0f : sum * exp2f((top - row_top) * kLog2E), scratch);
  const bool inside = target < vocabulary;
  const float at_target = inside ? Load(row[target]) : nanf("");
  if (threadIdx.x == 0) loss[blockIdx.x] = logf(row_sum) + row_top - at_target;
  if (!with_gradient) return;
  __syncthreads();  // all have read row[target]
  const float factor = inside ? scale / row_sum : nanf("");
  ForRow<kCount>(row, vocabulary, nothing, [&](const P& pack, int64_t v) {
    auto x = Widen(pack);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float p = factor * exp2f(fmaf(x.value[k], kLog2E, -row_top * kLog2E));
      x.value[k] = v + k == target ? p - scale : p;
    }
    StoreFloats(row + v, x);
  });
}

}  // namespace

void CrossEntropy(const CrossEntropyArgs& args, Stream stream) {
  const int64_t rows = args.logits.dim(0), vocabulary = args.logits.dim(1);
  DispatchDeviceFloat(args.logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto kernel = Packable<T>(args.logits.data, vocabulary)
                            ? CrossEntropyKernel<kVector<T>, T>
                            : CrossEntropyKernel<1, T>;
    LaunchGrid(kernel, dim3(static_cast<unsigned>(rows)), kRowThreads, 0, stream,
               args.logits.As<T>(), args.targets.As<const int32_t>(), args.loss.As<float>(),
               vocabulary, args.with_gradient, static_cast<float>(args.scale));
  });
}

}  // namespace lacuna::cuda
