// One block: the sum of the counts, then an expert a thread.
#include "core/cuda/launch.cuh"
#include "core/cuda/reduce.cuh"
#include "moe/bias_update.h"

namespace lacuna::cuda {
namespace {

__global__ void __launch_bounds__(kThreads)
    BiasKernel(const double* counts, float* bias, int experts, double rate) {
  __shared__ double scratch[kThreads / kWarp];
  double sum = 0;
  for (int e = threadIdx.x; e < experts; e += kThreads) sum += counts[e];
  sum = BlockReduce(sum, scratch);
  for (int e = threadIdx.x; e < experts; e += kThreads) {
    const double difference = sum - counts[e] * experts;
    bias[e] += static_cast<float>(difference > 0 ? rate : difference < 0 ? -rate : 0.0);
  }
}

}  // namespace

void UpdateBias(const UpdateBiasArgs& args, Stream stream) {
  if (args.bias.dtype != DType::kF32)
    Fail(__FILE__, __LINE__, "the router's bias on CUDA is f32", cudaErrorNotSupported);
  LaunchGrid(BiasKernel, 1, kThreads, 0, stream, args.counts.As<double>(), args.bias.As<float>(),
             static_cast<int>(args.counts.dim(0)), args.rate);
}

}  // namespace lacuna::cuda
