// The gated sum. 16 lanes take a row (token, head), each lane packs of 16 bytes where rows allow
// it; the dot products of the backward pass are summed by a butterfly over the 16.
#include "core/cuda/gated_sum.cuh"
#include "core/cuda/reduce.cuh"
#include "core/cuda/vector.cuh"
#include "nsa/gate_combine.h"

namespace lacuna::cuda {
namespace {

constexpr int kLanes = 16;

template <int kCount, class T>
__global__ void CombineKernel(const float* gate, const T* cmp, const T* slc, const T* win, T* o,
                              int64_t rows, int width) {
  for (int64_t r = GlobalIndex() / kLanes; r < rows; r += GridSize() / kLanes) {
    const float gates[3] = {gate[3 * r], gate[3 * r + 1], gate[3 * r + 2]};
    for (int i = static_cast<int>(threadIdx.x) % kLanes * kCount; i < width; i += kLanes * kCount) {
      const int64_t at = r * width + i;
      const auto x = LoadFloats<kCount>(cmp + at), y = LoadFloats<kCount>(slc + at),
                 z = LoadFloats<kCount>(win + at);
      Floats<kCount> out;
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        out.value[k] = WeightedSum(gates, x.value[k], y.value[k], z.value[k]);
      StoreFloats(o + at, out);
    }
  }
}

template <class T>
struct Branch {
  const T* o;
  const float* lse;
};

// 16 lanes take kRows rows one after the other, so that all their reads are under way at once.
template <int kCount, int kRows, class T>
__global__ void __launch_bounds__(kThreads)
    CombineBackwardKernel(const float* __restrict__ gate, Branch<T> cmp, Branch<T> slc,
                          Branch<T> win, const T* __restrict__ d_o, float* __restrict__ dgate,
                          float* __restrict__ delta, float* __restrict__ weighted_lse, int64_t rows,
                          int width) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t first = GlobalIndex() / kLanes * kRows;
#pragma unroll
  for (int u = 0; u < kRows; ++u) {
    const int64_t r = first + u;
    const bool real = r < rows;  // whole warps stay: the sums are over shuffles
    float sum_a = 0, sum_b = 0, sum_c = 0;
    for (int i = lane * kCount; i < width && real; i += kLanes * kCount) {
      const int64_t at = r * width + i;
      const auto d = LoadFloats<kCount>(d_o + at), x = LoadFloats<kCount>(cmp.o + at),
                 y = LoadFloats<kCount>(slc.o + at), z = LoadFloats<kCount>(win.o + at);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        sum_a += d.value[k] * x.value[k];
        sum_b += d.value[k] * y.value[k];
        sum_c += d.value[k] * z.value[k];
      }
    }
    sum_a = WarpReduce<kLanes>(sum_a);
    sum_b = WarpReduce<kLanes>(sum_b);
    sum_c = WarpReduce<kLanes>(sum_c);
    if (!real || lane >= 3) continue;
    const float sum = lane == 0   ? sum_a
                      : lane == 1 ? sum_b
                                  : sum_c,
                lse = (lane == 0   ? cmp.lse
                       : lane == 1 ? slc.lse
                                   : win.lse)[r];
    dgate[3 * r + lane] = sum;
    delta[lane * rows + r] = sum;
    weighted_lse[lane * rows + r] = isinf(lse) ? lse : lse - logf(gate[3 * r + lane]);
  }
}

template <class T>
bool AllPackable(int64_t width, std::initializer_list<TensorRef> tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [=](const TensorRef& tensor) { return Packable<T>(tensor.data, width); });
}

}  // namespace

void GateCombineFwd(const GateCombineFwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.o.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t rows = args.o.dim(0) * args.o.dim(1), width = args.o.dim(2);
    const auto launch = [&](auto kernel) {
      Launch(kernel, rows * kLanes, stream, args.gate.As<float>(), args.o_cmp.As<T>(),
             args.o_slc.As<T>(), args.o_win.As<T>(), args.o.As<T>(), rows, static_cast<int>(width));
    };
    AllPackable<T>(width, {args.o_cmp, args.o_slc, args.o_win, args.o})
        ? launch(CombineKernel<kVector<T>, T>)
        : launch(CombineKernel<1, T>);
  });
}

void GateCombineBwd(const GateCombineBwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.d_o.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t rows = args.d_o.dim(0) * args.d_o.dim(1), width = args.d_o.dim(2);
    constexpr int kRows = 2;
    const int64_t threads = (rows + kRows - 1) / kRows * kLanes;
    const auto branch = [](const TensorRef& o, const TensorRef& lse) {
      return Branch<T>{o.As<T>(), lse.As<float>()};
    };
    const auto launch = [&](auto kernel) {
      LaunchGrid(kernel, dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)), kThreads,
                 0, stream, args.gate.As<const float>(), branch(args.o_cmp, args.lse_cmp),
                 branch(args.o_slc, args.lse_slc), branch(args.o_win, args.lse_win),
                 args.d_o.As<const T>(), args.dgate.As<float>(), args.delta.As<float>(),
                 args.weighted_lse.As<float>(), rows, static_cast<int>(width));
    };
    AllPackable<T>(width, {args.o_cmp, args.o_slc, args.o_win, args.d_o})
        ? launch(CombineBackwardKernel<kVector<T>, kRows, T>)
        : launch(CombineBackwardKernel<1, kRows, T>);
  });
}

}  // namespace lacuna::cuda
