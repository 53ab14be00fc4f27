#include "core/ops/embedding.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {

void EmbeddingFwd(const EmbeddingFwdArgs& args, Stream) {
  const int64_t width = args.w.dim(1), vocabulary = args.w.dim(0);
  const int32_t* ids = args.ids.As<int32_t>();
  DispatchFloat(args.w.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    ParallelForChunks(args.ids.dim(0), 64, width, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        LACUNA_CHECK(ids[n] >= 0 && ids[n] < vocabulary,
                     "embedding: row {} has token id {}, the vocabulary has {}", n, ids[n],
                     vocabulary);
        const T* row = args.w.As<T>() + ids[n] * width;
        std::copy(row, row + width, args.y.As<T>() + n * width);
      }
    });
  });
}

// Threads take ranges of columns, so every element of dw is summed over n in ascending order by one
// thread.
void EmbeddingBwd(const EmbeddingBwdArgs& args, Stream) {
  const int64_t width = args.dw.dim(1), rows = args.ids.dim(0);
  const int32_t* ids = args.ids.As<int32_t>();
  DispatchFloat(args.dy.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = ComputeType<T>;
    ParallelForChunks(width, 64, rows, [&](int64_t begin, int64_t end) {
      for (int64_t n = 0; n < rows; ++n) {
        const T* dy = args.dy.As<T>() + n * width;
        A* dw = args.dw.As<A>() + ids[n] * width;
        for (int64_t c = begin; c < end; ++c) dw[c] += static_cast<A>(Widen(dy[c]));
      }
    });
  });
}

}  // namespace lacuna::cpu
