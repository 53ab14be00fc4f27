// Rotary embedding. A thread takes one pair of packs, V elements and those a rotary width away:
//
//   head of D dims   [ 0 .. R/2 | R/2 .. R | R .. D ]
//   rotating thread  a -> a c - b s, b -> b c + a s
//   copying thread   two packs of what passes through; none where y is x
//
// so that no element is read twice and, in place, nobody reads what another has written. Threads
// are numbered through all heads of all tokens: no loop, no shared memory.
// Positions outside the table give NaN, which the step's check of the gradients reports.
#include "core/cuda/divide.cuh"
#include "core/cuda/vector.cuh"
#include "core/ops/rope.h"

namespace lacuna::cuda {
namespace {

struct Table {
  const float *cos, *sin;
  int64_t positions;
};

// How the threads of a head are numbered: first those that rotate, then those that copy.
struct Threads {
  int width, half;       // elements of a head; half of its rotary ones
  int pairs, of_a_head;  // threads that rotate; all
  int copied;            // packs that pass through
  Divider by_head, by_token;
};

template <int kCount, class T>
__device__ void RotatePair(const T* x, T* y, int64_t at, int d, int64_t position, const Threads& t,
                           const Table& table, float direction) {
  Floats<kCount> a = LoadFloats<kCount>(x + at), b = LoadFloats<kCount>(x + at + t.half);
  Floats<kCount> c, s;
  if (position >= 0 && position < table.positions) {
    c = LoadFloats<kCount>(table.cos + position * t.half + d);
    s = LoadFloats<kCount>(table.sin + position * t.half + d);
  } else {
#pragma unroll
    for (int k = 0; k < kCount; ++k) c.value[k] = s.value[k] = nanf("");
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const float u = a.value[k], v = b.value[k], sine = direction * s.value[k];
    a.value[k] = u * c.value[k] - v * sine;
    b.value[k] = v * c.value[k] + u * sine;
  }
  StoreFloats(y + at, a);
  StoreFloats(y + at + t.half, b);
}

// x may be y.
template <int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    RopeKernel(const T* x, const int32_t* __restrict__ positions, T* y, uint32_t total, Threads t,
               Table table, float direction) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= total) return;
  const uint32_t head = t.by_head.Divide(i);
  const int item = static_cast<int>(i - head * static_cast<uint32_t>(t.of_a_head));
  const int64_t first = int64_t{head} * t.width;
  if (item < t.pairs) {
    RotatePair<kCount>(x, y, first + item * kCount, item * kCount, positions[t.by_token.Divide(i)],
                       t, table, direction);
    return;
  }
  const int copy = item - t.pairs, copiers = t.of_a_head - t.pairs;
  const int64_t at = first + 2 * t.half + copy * kCount, other = at + int64_t{copiers} * kCount;
  const bool two = copy + copiers < t.copied;
  const auto pack = LoadPack<kCount>(x + at);
  Pack<T, kCount> second;
  if (two) second = LoadPack<kCount>(x + other);
  StorePack(y + at, pack);
  if (two) StorePack(y + other, second);
}

Threads ThreadsOf(const RopeArgs& args, int count) {
  const int heads = static_cast<int>(args.x.dim(1)), width = static_cast<int>(args.x.dim(2)),
            half = static_cast<int>(args.cos.dim(1)), pairs = half / count,
            copied = args.x.data == args.y.data ? 0 : (width - 2 * half) / count,
            of_a_head = pairs + (copied + 1) / 2;
  return {.width = width,
          .half = half,
          .pairs = pairs,
          .of_a_head = of_a_head,
          .copied = copied,
          .by_head = Divider(static_cast<uint32_t>(std::max(1, of_a_head))),
          .by_token = Divider(static_cast<uint32_t>(std::max(1, heads * of_a_head)))};
}

}  // namespace

void Rope(const RopeArgs& args, Stream stream) {
  const int64_t rows = args.x.dim(0), row = args.x.dim(1) * args.x.dim(2), half = args.cos.dim(1);
  const Table table{args.cos.As<const float>(), args.sin.As<const float>(), args.cos.dim(0)};
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool packs =
        Packable<T>(args.x.data, args.x.dim(2)) && IsAligned(args.y.data) && half % kVector<T> == 0;
    const auto kernel = packs ? RopeKernel<kVector<T>, T> : RopeKernel<1, T>;
    const Threads threads = ThreadsOf(args, packs ? kVector<T> : 1);
    const int64_t a_token = args.x.dim(1) * threads.of_a_head;
    if (a_token == 0) return;
    // A launch numbers its threads in 31 bits.
    const int64_t most = (int64_t{1} << 30) / a_token;
    for (int64_t n = 0; n < rows; n += most) {
      const int64_t total = std::min(most, rows - n) * a_token;
      LaunchGrid(kernel, dim3(static_cast<unsigned>((total + kThreads - 1) / kThreads)), kThreads,
                 0, stream, args.x.As<const T>() + n * row, args.positions.As<const int32_t>() + n,
                 args.y.As<T>() + n * row, static_cast<uint32_t>(total), threads, table,
                 args.inverse ? -1.0f : 1.0f);
    }
  });
}

}  // namespace lacuna::cuda
