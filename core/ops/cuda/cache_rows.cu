// Appending a step's rows: a block a part and token. A thread takes packs of a head, or pairs of them
// where they rotate; items of a head are numbered rotating ones first.
#include <algorithm>

#include "core/cuda/early_launch.cuh"
#include "core/cuda/vector.cuh"
#include "core/ops/cache_rows.h"

namespace lacuna::cuda {
namespace {

struct Part {
  const void* x;
  void* y;  // null: in the cache
  int heads, width, column, rotary;
  int64_t first, stride, ring;
};
struct Parts {
  Part part[kMaxCacheRows];
};
struct Table {
  const float *cos, *sin;
  int64_t positions;
};

template <int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    AppendKernel(const __grid_constant__ Parts parts, const int4* tokens, const int64_t* addresses,
                 int columns, Table table) {
  LetNextStart();
  const Part& p = parts.part[blockIdx.x];
  const int4 token = tokens[blockIdx.y];
  const int64_t position = token.y, row_size = int64_t{p.heads} * p.width;
  const T* x = static_cast<const T*>(p.x) + token.x * row_size;
  T* y = static_cast<T*>(p.y);
  if (y != nullptr) {
    y += token.x * row_size;
  } else {
    y = reinterpret_cast<T*>(addresses[token.z * int64_t{columns} + p.column]) +
        (position - p.first) / p.stride % p.ring * row_size;
  }
  const int half = p.rotary / 2, of_a_head = (p.width - half) / kCount;
  for (int i = static_cast<int>(threadIdx.x); i < p.heads * of_a_head; i += kThreads) {
    const int head = i / of_a_head, d = i % of_a_head * kCount;
    const int64_t at = int64_t{head} * p.width + d;
    if (d >= half) {
      StorePack(y + at + half, LoadPack<kCount>(x + at + half));
      continue;
    }
    Floats<kCount> a = LoadFloats<kCount>(x + at), b = LoadFloats<kCount>(x + at + half), c, s;
    if (position < table.positions) {
      c = LoadFloats<kCount>(table.cos + position * half + d);
      s = LoadFloats<kCount>(table.sin + position * half + d);
    } else {
#pragma unroll
      for (int k = 0; k < kCount; ++k) c.value[k] = s.value[k] = nanf("");
    }
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float u = a.value[k], v = b.value[k];
      a.value[k] = u * c.value[k] - v * s.value[k];
      b.value[k] = v * c.value[k] + u * s.value[k];
    }
    StoreFloats(y + at, a);
    StoreFloats(y + at + half, b);
  }
}

template <int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    RecentKernel(T* y, const int4* tokens, const int64_t* addresses, int columns, int column,
                 int count, int row_size) {
  const int4 token = tokens[blockIdx.y];
  const int u = static_cast<int>(blockIdx.x);
  const T* from = reinterpret_cast<const T*>(addresses[token.z * int64_t{columns} + column]) +
                  (int64_t{token.y} + 1 + u) % count * row_size;
  T* to = y + (int64_t{blockIdx.y} * count + u) * row_size;
  for (int i = static_cast<int>(threadIdx.x) * kCount; i < row_size; i += kThreads * kCount)
    StorePack(to + i, LoadPack<kCount>(from + i));
}

}  // namespace

void AppendRows(const AppendRowsArgs& args, Stream stream) {
  const auto half = args.cos.defined() ? args.cos.dim(1) : 0;
  DispatchDeviceFloat(args.parts[0].x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Parts parts = {};
    bool packs = half % kVector<T> == 0;
    for (int i = 0; i < args.num_parts; ++i) {
      const CacheRows& part = args.parts[i];
      // Caches are whole tensors, aligned by their allocator.
      packs = packs && Packable<T>(part.x.data, part.x.dim(2)) && IsAligned(part.y.data);
      parts.part[i] = {.x = part.x.data,
                       .y = part.y.data,
                       .heads = static_cast<int>(part.x.dim(1)),
                       .width = static_cast<int>(part.x.dim(2)),
                       .column = part.column,
                       .rotary = part.rotate ? static_cast<int>(2 * half) : 0,
                       .first = part.first,
                       .stride = part.stride,
                       .ring = part.ring};
    }
    const Table table{args.cos.As<const float>(), args.sin.As<const float>(),
                      args.cos.defined() ? args.cos.dim(0) : 0};
    const auto kernel = packs ? AppendKernel<kVector<T>, T> : AppendKernel<1, T>;
    LaunchGrid(
        kernel,
        dim3(static_cast<unsigned>(args.num_parts), static_cast<unsigned>(args.tokens.dim(0))),
        kThreads, 0, stream, parts, args.tokens.As<const int4>(),
        args.addresses.As<const int64_t>(), static_cast<int>(args.addresses.dim(1)), table);
  });
}

void RecentRows(const RecentRowsArgs& args, Stream stream) {
  const int64_t row_size = args.y.dim(1) * args.y.dim(2);
  DispatchDeviceFloat(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto kernel =
        Packable<T>(args.y.data, row_size) ? RecentKernel<kVector<T>, T> : RecentKernel<1, T>;
    LaunchGrid(kernel,
               dim3(static_cast<unsigned>(args.count), static_cast<unsigned>(args.tokens.dim(0))),
               kThreads, 0, stream, args.y.As<T>(), args.tokens.As<const int4>(),
               args.addresses.As<const int64_t>(), static_cast<int>(args.addresses.dim(1)),
               args.column, static_cast<int>(args.count), static_cast<int>(row_size));
  });
}

}  // namespace lacuna::cuda
