#include "moe/expert_load.h"

#include <algorithm>
#include <vector>

#include "core/dispatch.h"
#include "core/error.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

constexpr int64_t kRowsPerChunk = 256;

}  // namespace

void CountChoices(const CountChoicesArgs& args, Stream) {
  const int64_t samples = args.counts.dim(0), experts = args.counts.dim(1),
                choices = args.ids.numel() / samples;
  const int32_t* ids = args.ids.As<int32_t>();
  double* counts = args.counts.As<double>();
  std::fill(counts, counts + samples * experts, 0.0);
  for (int64_t s = 0; s < samples; ++s) {
    for (int64_t i = s * choices; i < (s + 1) * choices; ++i) {
      LACUNA_CHECK(ids[i] >= 0 && ids[i] < experts, "count_choices: expert {} of {}", ids[i],
                   experts);
      counts[s * experts + ids[i]] += 1;
    }
  }
}

void MeanProbabilities(const MeanProbabilitiesArgs& args, Stream) {
  const int64_t samples = args.mean.dim(0), experts = args.mean.dim(1),
                rows = args.scores.dim(0) / samples;
  const int64_t chunks = (rows + kRowsPerChunk - 1) / kRowsPerChunk;
  std::vector<double> partial(static_cast<size_t>(samples * chunks * experts), 0.0);
  DispatchAccumulation(args.scores.dtype, [&](auto tag) {
    using A = typename decltype(tag)::type;
    ParallelFor(samples * chunks, kRowsPerChunk * 2 * experts, [&](int64_t i) {
      const int64_t sample = i / chunks, chunk = i % chunks;
      double* sum = partial.data() + i * experts;
      for (int64_t r = chunk * kRowsPerChunk; r < std::min(rows, (chunk + 1) * kRowsPerChunk);
           ++r) {
        const A* scores = args.scores.As<A>() + (sample * rows + r) * experts;
        double divisor = 1;
        if (args.kind == RouterKind::kSigmoid) {
          divisor = 1e-20;
          for (int64_t e = 0; e < experts; ++e) divisor += static_cast<double>(scores[e]);
        }
        for (int64_t e = 0; e < experts; ++e) sum[e] += static_cast<double>(scores[e]) / divisor;
      }
    });
  });
  double* mean = args.mean.As<double>();
  for (int64_t s = 0; s < samples; ++s) {
    for (int64_t e = 0; e < experts; ++e) {
      double sum = 0;
      for (int64_t c = 0; c < chunks; ++c)
        sum += partial[static_cast<size_t>((s * chunks + c) * experts + e)];
      mean[s * experts + e] = rows == 0 ? 0.0 : sum / static_cast<double>(rows);
    }
  }
}

void NormalizeLoad(const NormalizeLoadArgs& args, Stream) {
  const int64_t experts = args.counts.dim(1);
  double* row = args.counts.As<double>();
  for (int64_t s = 0; s < args.counts.dim(0); ++s, row += experts) {
    double sum = 0;
    for (int64_t e = 0; e < experts; ++e) sum += row[e];
    for (int64_t e = 0; e < experts; ++e) row[e] = sum == 0 ? 0 : row[e] / sum;
  }
}

}  // namespace lacuna::cpu
