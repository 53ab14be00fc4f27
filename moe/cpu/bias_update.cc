#include "moe/bias_update.h"

#include "core/dispatch.h"

namespace lacuna::cpu {

void UpdateBias(const UpdateBiasArgs& args, Stream) {
  const int64_t experts = args.counts.dim(0);
  const double* counts = args.counts.As<double>();
  double sum = 0;
  for (int64_t e = 0; e < experts; ++e) sum += counts[e];
  DispatchAccumulation(args.bias.dtype, [&](auto tag) {
    using A = typename decltype(tag)::type;
    A* bias = args.bias.As<A>();
    for (int64_t e = 0; e < experts; ++e) {
      // Whole numbers on both sides: an expert with exactly the mean stays where it is.
      const double difference = sum - counts[e] * static_cast<double>(experts);
      const double sign = difference > 0 ? 1 : difference < 0 ? -1 : 0;
      bias[e] += static_cast<A>(args.rate * sign);
    }
  });
}

}  // namespace lacuna::cpu
