// Sums over rows by expert.
//
//   CountChoices       a block counts kIdsPerBlock choices of one sample in shared memory and adds
//                      its counts to the f64 output. Those are whole numbers, hence exact in any
//                      order. Ids outside go to the nearest expert.
//   MeanProbabilities  a block takes kRowsPerBlock rows of one sample: a warp a row forms the row's
//                      divisor, then a thread an expert sums down the rows in order (the rows'
//                      neighbouring experts are one access). A second kernel sums the blocks of a
//                      sample, in order.
//   NormalizeLoad      a warp a sample.
#include "core/cuda/memory.h"
#include "core/cuda/reduce.cuh"
#include "core/cuda/vector.cuh"
#include "moe/expert_limit.h"
#include "moe/expert_load.h"

namespace lacuna::cuda {
namespace {

constexpr int kIdsPerBlock = 4096;
constexpr int kRowsPerBlock = 64;
constexpr int kWarps = kThreads / kWarp;

__global__ void __launch_bounds__(kThreads)
    CountKernel(const int32_t* ids, int64_t choices, int blocks_a_sample, int experts,
                double* counts) {
  __shared__ int count[kMaxExperts];
  const int64_t sample = blockIdx.x / blocks_a_sample,
                begin = blockIdx.x % blocks_a_sample * int64_t{kIdsPerBlock},
                end = min(begin + kIdsPerBlock, choices);
  for (int e = threadIdx.x; e < experts; e += kThreads) count[e] = 0;
  __syncthreads();
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads)
    atomicAdd(&count[min(max(ids[sample * choices + i], 0), experts - 1)], 1);
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += kThreads) {
    if (count[e] > 0) atomicAdd(&counts[sample * experts + e], static_cast<double>(count[e]));
  }
}

// partial: [blocks, E]
__global__ void __launch_bounds__(kThreads)
    ProbabilitiesKernel(const float* scores, double* partial, int64_t rows, int blocks_a_sample,
                        int experts, bool sigmoid) {
  __shared__ double factor[kRowsPerBlock];
  const int64_t sample = blockIdx.x / blocks_a_sample,
                begin = blockIdx.x % blocks_a_sample * int64_t{kRowsPerBlock};
  const int here = static_cast<int>(min(int64_t{kRowsPerBlock}, rows - begin));
  scores += (sample * rows + begin) * experts;
  for (int r = threadIdx.x / kWarp; r < here; r += kWarps) {
    double sum = 0;
    if (sigmoid) {
      for (int e = threadIdx.x % kWarp; e < experts; e += kWarp)
        sum += static_cast<double>(scores[int64_t{r} * experts + e]);
      sum = WarpReduce(sum);
    }
    if (threadIdx.x % kWarp == 0) factor[r] = sigmoid ? 1.0 / (sum + 1e-20) : 1.0;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += kThreads) {
    double sum = 0;
    for (int r = 0; r < here; ++r)
      sum += static_cast<double>(scores[int64_t{r} * experts + e]) * factor[r];
    partial[int64_t{blockIdx.x} * experts + e] = sum;
  }
}

__global__ void MeanKernel(const double* partial, double* mean, int64_t samples, int64_t rows,
                           int blocks_a_sample, int experts) {
  const int64_t i = GlobalIndex();
  if (i >= samples * experts) return;
  const int64_t sample = i / experts, e = i % experts;
  double sum = 0;
  for (int b = 0; b < blocks_a_sample; ++b)
    sum += partial[(sample * blocks_a_sample + b) * experts + e];
  mean[i] = rows == 0 ? 0.0 : sum / static_cast<double>(rows);
}

__global__ void __launch_bounds__(kThreads)
    NormalizeKernel(double* counts, int64_t samples, int experts) {
  const int64_t s = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (s >= samples) return;
  double* const row = counts + s * experts;
  double sum = 0;
  for (int e = threadIdx.x % kWarp; e < experts; e += kWarp) sum += row[e];
  sum = WarpReduce(sum);
  for (int e = threadIdx.x % kWarp; e < experts; e += kWarp) row[e] = sum == 0 ? 0.0 : row[e] / sum;
}

int Blocks(int64_t n, int64_t each) {
  return static_cast<int>((n + each - 1) / each);
}

}  // namespace

void CountChoices(const CountChoicesArgs& args, Stream stream) {
  const int64_t samples = args.counts.dim(0), choices = args.ids.numel() / samples;
  const int blocks = Blocks(choices, kIdsPerBlock);
  Zero(args.counts.data, args.counts.numel() * 8, stream);
  LaunchGrid(CountKernel, dim3(static_cast<unsigned>(samples * blocks)), kThreads, 0, stream,
             args.ids.As<int32_t>(), choices, blocks, static_cast<int>(args.counts.dim(1)),
             args.counts.As<double>());
}

void MeanProbabilities(const MeanProbabilitiesArgs& args, Stream stream) {
  if (args.scores.dtype != DType::kF32)
    Fail(__FILE__, __LINE__, "the router on CUDA is f32", cudaErrorNotSupported);
  const int64_t samples = args.mean.dim(0), rows = args.scores.dim(0) / samples;
  const int experts = static_cast<int>(args.mean.dim(1)), blocks = Blocks(rows, kRowsPerBlock);
  const Workspace partial(samples * blocks * experts * 8, stream);
  LaunchGrid(ProbabilitiesKernel, dim3(static_cast<unsigned>(samples * blocks)), kThreads, 0,
             stream, args.scores.As<float>(), partial.As<double>(), rows, blocks, experts,
             args.kind == RouterKind::kSigmoid);
  LaunchGrid(MeanKernel, dim3(static_cast<unsigned>(Blocks(samples * experts, kThreads))), kThreads,
             0, stream, partial.As<double>(), args.mean.As<double>(), samples, rows, blocks,
             experts);
}

void NormalizeLoad(const NormalizeLoadArgs& args, Stream stream) {
  const int64_t samples = args.counts.dim(0);
  LaunchGrid(NormalizeKernel, dim3(static_cast<unsigned>(Blocks(samples, kWarps))), kThreads, 0,
             stream, args.counts.As<double>(), samples, static_cast<int>(args.counts.dim(1)));
}

}  // namespace lacuna::cuda
