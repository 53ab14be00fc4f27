#include "nsa/nsa_statistics.h"

#include <algorithm>

#include "core/dispatch.h"

namespace lacuna::cpu {
namespace {

template <class A>
void AddGates(const NsaStatisticsArgs& args, double* sums) {
  const A* gate = args.gate.As<A>();
  for (int64_t i = 0; i < args.gate.numel(); ++i) sums[i % 3] += static_cast<double>(gate[i]);
}

template <class A>
void AddSelection(const NsaStatisticsArgs& args, double* sums) {
  const int64_t groups = args.blocks.dim(1), selected = args.blocks.dim(2);
  const int32_t *blocks = args.blocks.As<int32_t>(), *positions = args.positions.As<int32_t>();
  for (int64_t i = 0; i < args.blocks.dim(0) * groups; ++i) {
    const int64_t t = positions[i / groups];
    if (t / args.select_block + 1 <= selected) continue;
    sums[3] += static_cast<double>(args.entropy.As<A>()[i]);
    sums[4] += 1;
    for (int64_t s = 0; s < selected; ++s) {
      const int64_t j = blocks[i * selected + s];
      if (j < 0) break;
      sums[5] += (j + 1) * args.select_block > t - args.window + 1 ? 1 : 0;
      sums[6] += 1;
    }
  }
}

}  // namespace

void NsaStatistics(const NsaStatisticsArgs& args, Stream) {
  double* const sums = args.sums.As<double>();
  std::fill_n(sums, kNumNsaStatistics, 0.0);
  DispatchFloat(args.gate.dtype, [&](auto tag) {
    using A = ComputeType<typename decltype(tag)::type>;
    AddGates<A>(args, sums);
    AddSelection<A>(args, sums);
  });
}

}  // namespace lacuna::cpu
