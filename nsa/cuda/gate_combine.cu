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
      const auto x = LoadPack<kCount>(cmp + at), y = LoadPack<kCount>(slc + at),
                 z = LoadPack<kCount>(win + at);
      Pack<T, kCount> out;
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        out.value[k] = Store<T>(a * Load(x.value[k]) + b * Load(y.value[k]) + c * Load(z.value[k]));
      StorePack(o + at, out);
    }
  }
}

template <class T>
struct Branches {
  const T* o[3];
  T* d_o[3];
};

template <int kCount, class T>
__global__ void CombineBackwardKernel(const float* gate, Branches<T> branches, const T* d_o,
                                      float* dgate, int64_t rows, int width) {
  // Whole warps stay in the loop: the sums are over shuffles.
  const int64_t whole = (rows + kWarp / kLanes - 1) / (kWarp / kLanes) * (kWarp / kLanes);
  for (int64_t r = GlobalIndex() / kLanes; r < whole; r += GridSize() / kLanes) {
    const bool real = r < rows;
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    float g[3] = {}, sum[3] = {};
    for (int c = 0; c < 3 && real; ++c) g[c] = gate[3 * r + c];
    for (int i = lane * kCount; i < width && real; i += kLanes * kCount) {
      const int64_t at = r * width + i;
      // All reads before the first write, which might be to the same memory for all the compiler
      // knows: four reads are under way at once.
      const auto d = LoadPack<kCount>(d_o + at);
      Pack<T, kCount> o[3];
#pragma unroll
      for (int c = 0; c < 3; ++c) o[c] = LoadPack<kCount>(branches.o[c] + at);
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        Pack<T, kCount> out;
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
          sum[c] += Load(d.value[k]) * Load(o[c].value[k]);
          out.value[k] = Store<T>(g[c] * Load(d.value[k]));
        }
        StorePack(branches.d_o[c] + at, out);
      }
    }
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      sum[c] = WarpReduce<kLanes>(sum[c]);
      if (real && lane == 0) dgate[3 * r + c] = sum[c];
    }
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
    const Branches<T> branches{{args.o_cmp.As<T>(), args.o_slc.As<T>(), args.o_win.As<T>()},
                               {args.do_cmp.As<T>(), args.do_slc.As<T>(), args.do_win.As<T>()}};
    const auto launch = [&](auto kernel) {
      Launch(kernel, rows * kLanes, stream, args.gate.As<float>(), branches, args.d_o.As<T>(),
             args.dgate.As<float>(), rows, static_cast<int>(width));
    };
    AllPackable<T>(width, {args.o_cmp, args.o_slc, args.o_win, args.d_o, args.do_cmp, args.do_slc,
                           args.do_win})
        ? launch(CombineBackwardKernel<kVector<T>, T>)
        : launch(CombineBackwardKernel<1, T>);
  });
}

}  // namespace lacuna::cuda
