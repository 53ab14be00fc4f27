// The gated sum. 16 lanes take a row (token, head), each lane packs of 16 bytes where rows allow
// it; the dot products of the backward pass are summed by a butterfly over the 16.
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
    const float a = gate[3 * r], b = gate[3 * r + 1], c = gate[3 * r + 2];
    for (int i = static_cast<int>(threadIdx.x) % kLanes * kCount; i < width; i += kLanes * kCount) {
      const int64_t at = r * width + i;
      const auto x = LoadFloats<kCount>(cmp + at), y = LoadFloats<kCount>(slc + at),
                 z = LoadFloats<kCount>(win + at);
      Floats<kCount> out;
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        out.value[k] = a * x.value[k] + b * y.value[k] + c * z.value[k];
      StoreFloats(o + at, out);
    }
  }
}

// 16 lanes take kRows rows one after the other, so that all their reads are under way at once.
template <int kCount, int kRows, class T>
__global__ void __launch_bounds__(kThreads)
    CombineBackwardKernel(const float* __restrict__ gate, const T* __restrict__ cmp,
                          const T* __restrict__ slc, const T* __restrict__ win,
                          const T* __restrict__ d_o, T* __restrict__ d_cmp, T* __restrict__ d_slc,
                          T* __restrict__ d_win, float* __restrict__ dgate, int64_t rows,
                          int width) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t first = GlobalIndex() / kLanes * kRows;
#pragma unroll
  for (int u = 0; u < kRows; ++u) {
    const int64_t r = first + u;
    const bool real = r < rows;  // whole warps stay: the sums are over shuffles
    float a = 0, b = 0, c = 0, sum_a = 0, sum_b = 0, sum_c = 0;
    if (real) {
      a = gate[3 * r];
      b = gate[3 * r + 1];
      c = gate[3 * r + 2];
    }
    for (int i = lane * kCount; i < width && real; i += kLanes * kCount) {
      const int64_t at = r * width + i;
      const auto d = LoadFloats<kCount>(d_o + at), x = LoadFloats<kCount>(cmp + at),
                 y = LoadFloats<kCount>(slc + at), z = LoadFloats<kCount>(win + at);
      Floats<kCount> dx, dy, dz;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const float g = d.value[k];
        sum_a += g * x.value[k];
        sum_b += g * y.value[k];
        sum_c += g * z.value[k];
        dx.value[k] = a * g;
        dy.value[k] = b * g;
        dz.value[k] = c * g;
      }
      StoreFloats(d_cmp + at, dx);
      StoreFloats(d_slc + at, dy);
      StoreFloats(d_win + at, dz);
    }
    sum_a = WarpReduce<kLanes>(sum_a);
    sum_b = WarpReduce<kLanes>(sum_b);
    sum_c = WarpReduce<kLanes>(sum_c);
    if (real && lane < 3) dgate[3 * r + lane] = lane == 0 ? sum_a : lane == 1 ? sum_b : sum_c;
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
    const auto launch = [&](auto kernel) {
      LaunchGrid(kernel, dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)), kThreads,
                 0, stream, args.gate.As<const float>(), args.o_cmp.As<const T>(),
                 args.o_slc.As<const T>(), args.o_win.As<const T>(), args.d_o.As<const T>(),
                 args.do_cmp.As<T>(), args.do_slc.As<T>(), args.do_win.As<T>(),
                 args.dgate.As<float>(), rows, static_cast<int>(width));
    };
    AllPackable<T>(width, {args.o_cmp, args.o_slc, args.o_win, args.d_o, args.do_cmp, args.do_slc,
                           args.do_win})
        ? launch(CombineBackwardKernel<kVector<T>, kRows, T>)
        : launch(CombineBackwardKernel<1, kRows, T>);
  });
}

}  // namespace lacuna::cuda
