// How the choices and the router's probabilities spread over the experts, by sample.
//   counts[s, e] = number of choices of expert e in the rows of sample
//     s                                  (CountChoices)
//   mean[s, e]   = mean over the rows n of sample s of
//     p_ne,                                              (MeanProbabilities)
//                  p = score (softmax) or score / (sum_e score + 1e-20) (sigmoid)
//   counts[s, e] -> its share of sum_e counts[s, e]; 0 where there is
//     nothing                              (NormalizeLoad)
// ids: [N, K] i32 in [0, E); ids outside throw on the CPU, on CUDA they count as the nearest
// expert. scores: [N, E] f32 or f64. counts, mean: [S, E] f64, N divisible by S;
// sample s is rows [s, s + 1) * N / S.
// Sums over rows run in fixed chunks and in order: the same bits for any number of threads. Outputs
// are set.
#pragma once

#include "core/tensor_ref.h"
#include "moe/moe_config.h"

namespace lacuna {

struct CountChoicesArgs {
  TensorRef ids, counts;
};
struct NormalizeLoadArgs {
  TensorRef counts;
};
struct MeanProbabilitiesArgs {
  TensorRef scores, mean;
  RouterKind kind;
};

namespace cpu {
void CountChoices(const CountChoicesArgs&, Stream);
void MeanProbabilities(const MeanProbabilitiesArgs&, Stream);
void NormalizeLoad(const NormalizeLoadArgs&, Stream);
}  // namespace cpu
namespace cuda {
void CountChoices(const CountChoicesArgs&, Stream);
void MeanProbabilities(const MeanProbabilitiesArgs&, Stream);
void NormalizeLoad(const NormalizeLoadArgs&, Stream);
}  // namespace cuda
namespace ops {
void CountChoices(const CountChoicesArgs&, Stream);
void MeanProbabilities(const MeanProbabilitiesArgs&, Stream);
void NormalizeLoad(const NormalizeLoadArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
