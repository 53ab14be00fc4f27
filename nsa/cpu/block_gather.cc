#include "nsa/block_gather.h"

#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "nsa/block_map.h"

namespace lacuna::cpu {
namespace {

template <class T>
void Gather(const GatherBlocksFwdArgs& args) {
  const int64_t groups = args.x.dim(1), width = args.x.dim(2);
  if (groups == 0) return;
  const int64_t blocks = args.blocks.dim(0) / groups;
  const BlockMap map(args.cmp_tokens, {}, blocks, args.block, args.stride);
  const T *x = args.x.As<T>(), *pos = args.pos.data == nullptr ? nullptr : args.pos.As<T>();
  T* out = args.blocks.As<T>();
  ParallelFor(blocks, groups * args.block * width, [&](int64_t i) {
    for (int64_t g = 0; g < groups; ++g) {
      T* row = out + (i * groups + g) * args.block * width;
      for (int64_t u = 0; u < args.block; ++u) {
        const T* source = x + ((map.FirstToken(i) + u) * groups + g) * width;
        for (int64_t c = 0; c < width; ++c) {
          row[u * width + c] =
              pos == nullptr ? source[c] : Narrow<T>(Widen(source[c]) + Widen(pos[u * width + c]));
        }
      }
    }
  });
}

template <class T>
void GatherBackward(const GatherBlocksBwdArgs& args) {
  using A = ComputeType<T>;
  const int64_t tokens = args.dx.dim(0), groups = args.dx.dim(1), width = args.dx.dim(2);
  if (groups == 0) return;
  const int64_t blocks = args.dblocks.dim(0) / groups, row = args.block * width;
  const BlockMap map(args.cmp_tokens, args.token_blocks, blocks, args.block, args.stride);
  const T* dblocks = args.dblocks.As<T>();
  T* dx = args.dx.As<T>();
  ParallelForChunks(
      tokens, 32, groups * width * args.block / args.stride, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          const BlockRange in = map.Containing(t);
          for (int64_t g = 0; g < groups; ++g) {
            for (int64_t c = 0; c < width; ++c) {
              A sum = 0;
              for (int64_t i = in.begin; i < in.end; ++i)
                sum += Widen(dblocks[(i * groups + g) * row + (t - map.FirstToken(i)) * width + c]);
              dx[(t * groups + g) * width + c] = Narrow<T>(sum);
            }
          }
        }
      });
  if (args.dpos.data == nullptr) return;
  A* dpos = args.dpos.As<A>();
  ParallelFor(args.block, blocks * groups * width, [&](int64_t u) {
    std::vector<A> sum(static_cast<size_t>(width), A(0));
    for (int64_t r = 0; r < blocks * groups; ++r) {
      for (int64_t c = 0; c < width; ++c)
        sum[static_cast<size_t>(c)] += Widen(dblocks[r * row + u * width + c]);
    }
    for (int64_t c = 0; c < width; ++c) dpos[u * width + c] += sum[static_cast<size_t>(c)];
  });
}

template <class T>
void Mean(const BlockMeanFwdArgs& args) {
  using A = ComputeType<T>;
  const int64_t blocks = args.y.dim(0), line = args.x.dim(1) * args.x.dim(2);
  const T* x = args.x.As<T>();
  T* y = args.y.As<T>();
  const BlockMap map(args.cmp_tokens, {}, blocks, args.block, args.stride);
  ParallelFor(blocks, line * args.block, [&](int64_t i) {
    for (int64_t c = 0; c < line; ++c) {
      A sum = 0;
      for (int64_t u = 0; u < args.block; ++u) sum += Widen(x[(map.FirstToken(i) + u) * line + c]);
      y[i * line + c] = Narrow<T>(sum / static_cast<A>(args.block));
    }
  });
}

template <class T>
void MeanBackward(const BlockMeanBwdArgs& args) {
  using A = ComputeType<T>;
  const int64_t tokens = args.dx.dim(0), blocks = args.dy.dim(0),
                line = args.dx.dim(1) * args.dx.dim(2);
  const T* dy = args.dy.As<T>();
  T* dx = args.dx.As<T>();
  const BlockMap map({}, args.token_blocks, blocks, args.block, args.stride);
  ParallelForChunks(tokens, 32, line * args.block / args.stride, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const BlockRange in = map.Containing(t);
      for (int64_t c = 0; c < line; ++c) {
        A sum = 0;
        for (int64_t i = in.begin; i < in.end; ++i) sum += Widen(dy[i * line + c]);
        dx[t * line + c] = Narrow<T>(sum / static_cast<A>(args.block));
      }
    }
  });
}

}  // namespace

void GatherBlocksFwd(const GatherBlocksFwdArgs& args, Stream) {
  DispatchFloat(args.x.dtype, [&](auto tag) { Gather<typename decltype(tag)::type>(args); });
}

void GatherBlocksBwd(const GatherBlocksBwdArgs& args, Stream) {
  DispatchFloat(args.dx.dtype,
                [&](auto tag) { GatherBackward<typename decltype(tag)::type>(args); });
}

void BlockMeanFwd(const BlockMeanFwdArgs& args, Stream) {
  DispatchFloat(args.x.dtype, [&](auto tag) { Mean<typename decltype(tag)::type>(args); });
}

void BlockMeanBwd(const BlockMeanBwdArgs& args, Stream) {
  DispatchFloat(args.dx.dtype, [&](auto tag) { MeanBackward<typename decltype(tag)::type>(args); });
}

}  // namespace lacuna::cpu
