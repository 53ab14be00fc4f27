// Elementwise kernels: a grid-stride loop, one element a thread and iteration.
#include "core/cuda/check.h"
#include "core/cuda/launch.cuh"
#include "core/ops/elementwise.h"

namespace lacuna::cuda {
namespace {

template <class T>
__global__ void AddKernel(const T* a, const T* b, T* y, int64_t n) {
  for (int64_t i = GlobalIndex(); i < n; i += GridSize()) y[i] = Store<T>(Load(a[i]) + Load(b[i]));
}

template <class T>
__global__ void FillKernel(T* y, int64_t n, double value) {
  for (int64_t i = GlobalIndex(); i < n; i += GridSize()) y[i] = Store<T>(value);
}

template <class From, class To>
__global__ void CastKernel(const From* x, To* y, int64_t n) {
  for (int64_t i = GlobalIndex(); i < n; i += GridSize()) y[i] = Store<To>(Load(x[i]));
}

}  // namespace

void Add(const AddArgs& args, Stream stream) {
  const int64_t n = args.y.numel();
  DispatchDeviceFloat(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Launch(AddKernel<T>, n, stream, args.a.As<T>(), args.b.As<T>(), args.y.As<T>(), n);
  });
}

void Fill(const FillArgs& args, Stream stream) {
  const int64_t n = args.y.numel();
  DispatchDeviceAny(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Launch(FillKernel<T>, n, stream, args.y.As<T>(), n, args.value);
  });
}

void Cast(const CastArgs& args, Stream stream) {
  const int64_t n = args.y.numel();
  DispatchDeviceAny(args.x.dtype, [&](auto from) {
    DispatchDeviceAny(args.y.dtype, [&](auto to) {
      using From = typename decltype(from)::type;
      using To = typename decltype(to)::type;
      Launch(CastKernel<From, To>, n, stream, args.x.As<From>(), args.y.As<To>(), n);
    });
  });
}

}  // namespace lacuna::cuda
