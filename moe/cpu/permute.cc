#include "moe/permute.h"

#include <algorithm>
#include <vector>

#include "core/dispatch.h"
#include "core/error.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

constexpr int64_t kTokensPerChunk = 32;

}  // namespace

void SortByExpert(const SortByExpertArgs& args, Stream) {
  const int64_t choices = args.ids.numel(), experts = args.offsets.dim(0) - 1;
  const int32_t* ids = args.ids.As<int32_t>();
  int64_t* offsets = args.offsets.As<int64_t>();
  std::fill(offsets, offsets + experts + 1, int64_t{0});
  const auto is_none = [&](int64_t i) { return args.may_be_none && ids[i] == -1; };
  for (int64_t i = 0; i < choices; ++i) {
    if (is_none(i)) continue;
    LACUNA_CHECK(ids[i] >= 0 && ids[i] < experts, "sort_by_expert: expert {} of {}", ids[i],
                 experts);
    ++offsets[ids[i] + 1];
  }
  for (int64_t e = 0; e < experts; ++e) offsets[e + 1] += offsets[e];
  std::vector<int64_t> next(offsets, offsets + experts);
  int32_t* position = args.position.As<int32_t>();
  for (int64_t i = 0; i < choices; ++i)
    position[i] = is_none(i) ? -1 : static_cast<int32_t>(next[static_cast<size_t>(ids[i])]++);
}

void PermuteRows(const PermuteRowsArgs& args, Stream) {
  DispatchFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t columns = args.x.dim(1), choices = args.position.dim(1);
    ParallelForChunks(args.x.dim(0), kTokensPerChunk, choices * columns,
                      [&](int64_t begin, int64_t end) {
                        for (int64_t i = begin * choices; i < end * choices; ++i) {
                          const int32_t row = args.position.As<int32_t>()[i];
                          if (row < 0) continue;
                          const T* x = args.x.As<T>() + i / choices * columns;
                          std::copy(x, x + columns, args.y.As<T>() + row * columns);
                        }
                      });
  });
}

void UnpermuteRows(const UnpermuteRowsArgs& args, Stream) {
  DispatchFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = ComputeType<T>;
    const int64_t columns = args.x.dim(1), choices = args.position.dim(1);
    const A* w = args.w.defined() ? args.w.As<A>() : nullptr;
    ParallelForChunks(args.y.dim(0), kTokensPerChunk, 2 * choices * columns,
                      [&](int64_t begin, int64_t end) {
                        std::vector<A> sum(static_cast<size_t>(columns));
                        for (int64_t n = begin; n < end; ++n) {
                          std::fill(sum.begin(), sum.end(), A(0));
                          for (int64_t i = n * choices; i < (n + 1) * choices; ++i) {
                            const int32_t row = args.position.As<int32_t>()[i];
                            if (row < 0) continue;
                            const T* x = args.x.As<T>() + row * columns;
                            const A factor = w == nullptr ? A(1) : w[i];
                            for (int64_t c = 0; c < columns; ++c)
                              sum[static_cast<size_t>(c)] += factor * static_cast<A>(Widen(x[c]));
                          }
                          T* y = args.y.As<T>() + n * columns;
                          for (int64_t c = 0; c < columns; ++c)
                            y[c] = Narrow<T>(sum[static_cast<size_t>(c)]);
                        }
                      });
  });
}

}  // namespace lacuna::cpu
