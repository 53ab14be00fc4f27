#include "moe/expert_load.h"

#include "core/kernel.h"
#include "core/ops/check.h"
#include "moe/expert_limit.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<CountChoicesArgs> kCountChoices{
    "count_choices", "ids =counts", cpu::CountChoices, LACUNA_IF_CUDA(cuda::CountChoices)};
constinit const Kernel<MeanProbabilitiesArgs> kMeanProbabilities{
    "mean_probabilities", "scores =mean", cpu::MeanProbabilities,
    LACUNA_IF_CUDA(cuda::MeanProbabilities)};
constinit const Kernel<NormalizeLoadArgs> kNormalizeLoad{
    "normalize_load", "+counts", cpu::NormalizeLoad, LACUNA_IF_CUDA(cuda::NormalizeLoad)};

// `out` is [S, E] f64 and cuts the rows of x evenly.
void CheckSamples(const char* op, const TensorRef& x, const TensorRef& out) {
  LACUNA_CHECK(x.rank == 2 && out.rank == 2 && out.dim(0) >= 1 && x.dim(0) % out.dim(0) == 0,
               "{}: {} into {}", op, Describe(x), Describe(out));
  CheckDType(op, "output", out, DType::kF64);
}

}  // namespace

void CountChoices(const CountChoicesArgs& args, Stream stream) {
  CheckSamples("count_choices", args.ids, args.counts);
  CheckDType("count_choices", "ids", args.ids, DType::kI32);
  CheckNumExperts("count_choices", args.counts.dim(1), stream);
  kCountChoices(args, stream);
}

void MeanProbabilities(const MeanProbabilitiesArgs& args, Stream stream) {
  CheckSamples("mean_probabilities", args.scores, args.mean);
  LACUNA_CHECK(args.scores.dim(1) == args.mean.dim(1), "mean_probabilities: {} into {}",
               Describe(args.scores), Describe(args.mean));
  kMeanProbabilities(args, stream);
}

void NormalizeLoad(const NormalizeLoadArgs& args, Stream stream) {
  LACUNA_CHECK(args.counts.rank == 2, "normalize_load: {}", Describe(args.counts));
  CheckDType("normalize_load", "counts", args.counts, DType::kF64);
  kNormalizeLoad(args, stream);
}

}  // namespace lacuna::ops
