#include "core/ops/random_normal.h"

#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/random.h"

namespace lacuna::cpu {

void RandomNormal(const RandomNormalArgs& args, Stream) {
  DispatchAccumulation(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* y = args.y.As<T>();
    ParallelForChunks(args.y.numel(), 4096, 100, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        y[k] = static_cast<T>(
            args.std * PhiloxNormal(args.key, args.stream, args.first + static_cast<uint64_t>(k)));
      }
    });
  });
}

}  // namespace lacuna::cpu
