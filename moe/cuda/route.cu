// The router's row kernels: a warp a row, expert e at lane e % 32. Rows are short (E <= 1024) and
// stay in L1 between the passes over them.
//
//   ChooseExperts  a value becomes an unsigned key of the same order; 0 stands for "taken" and for
//                  places past E. K rounds: the largest key of the lane's registers, of the warp
//                  (redux), then the lowest expert that holds it. NaNs have keys, too: the K
//                  experts are always different ones.
//   RouteBwd       the chosen scatter their ds into the warp's row in shared memory, then every
//                  lane goes over its experts.
// Ids outside [0, E) read the nearest expert.
#include "core/cuda/launch.cuh"
#include "core/cuda/reduce.cuh"
#include "moe/expert_limit.h"
#include "moe/route.h"

namespace lacuna::cuda {
namespace {

constexpr int kWarps = 4, kBlock = kWarps * kWarp;
constexpr float kEpsilon = 1e-20f;

__device__ int64_t RowOfWarp() {
  return int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
}
__device__ int ExpertAt(const int32_t* ids, int k, int experts) {
  return min(max(ids[k], 0), experts - 1);
}

__global__ void __launch_bounds__(kBlock)
    ScoresKernel(const float* logits, float* scores, float* lse_out, int64_t rows, int experts,
                 bool sigmoid) {
  const int64_t n = RowOfWarp();
  if (n >= rows) return;
  const int lane = threadIdx.x % kWarp;
  logits += n * experts;
  scores += n * experts;
  float top = -INFINITY, sum = 0;
  for (int e = lane; e < experts; e += kWarp) top = Max()(logits[e], top);
  top = WarpReduce(top, Max());
  for (int e = lane; e < experts; e += kWarp) sum += expf(logits[e] - top);
  const float lse = top + logf(WarpReduce(sum));
  if (lane == 0) lse_out[n] = lse;
  for (int e = lane; e < experts; e += kWarp)
    scores[e] = sigmoid ? 1.0f / (1.0f + expf(-logits[e])) : expf(logits[e] - lse);
}

// Keys order as their values do; +0 and -0 are equal, and none is 0.
__device__ unsigned KeyOf(float value) {
  const unsigned bits = __float_as_uint(value + 0.0f);
  const unsigned key = bits >> 31 ? ~bits : bits | 0x80000000u;
  return max(key, 1u);
}

template <int kPerLane>
__global__ void __launch_bounds__(kBlock)
    ChooseKernel(const float* scores, const float* bias, int32_t* ids, int64_t rows, int experts,
                 int chosen) {
  const int64_t n = RowOfWarp();
  if (n >= rows) return;
  const int lane = threadIdx.x % kWarp;
  scores += n * experts;
  ids += n * chosen;
  unsigned key[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = i * kWarp + lane;
    key[i] = 0;
    if (e < experts) key[i] = KeyOf(bias == nullptr ? scores[e] : scores[e] + bias[e]);
  }
  for (int k = 0; k < chosen; ++k) {
    unsigned best = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) best = max(best, key[i]);
    best = __reduce_max_sync(0xFFFFFFFFu, best);
    unsigned lowest = 0xFFFFFFFFu;
#pragma unroll
    for (int i = kPerLane - 1; i >= 0; --i) {
      if (key[i] == best) lowest = i * kWarp + lane;
    }
    const unsigned e = __reduce_min_sync(0xFFFFFFFFu, lowest);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (e == static_cast<unsigned>(i * kWarp + lane)) key[i] = 0;
    }
    if (lane == 0) ids[k] = static_cast<int32_t>(e);
  }
}

// What the chosen scores are divided by; every lane gets it.
__device__ float Divisor(const float* scores, const int32_t* ids, int chosen, int experts,
                         bool normalize) {
  if (!normalize) return 1;
  float sum = 0;
  for (int k = threadIdx.x % kWarp; k < chosen; k += kWarp)
    sum += scores[ExpertAt(ids, k, experts)];
  return WarpReduce(sum) + kEpsilon;
}

__global__ void __launch_bounds__(kBlock)
    WeightsKernel(const float* scores, const int32_t* ids, float* weights, int64_t rows,
                  int experts, int chosen, bool normalize, float scale) {
  const int64_t n = RowOfWarp();
  if (n >= rows) return;
  scores += n * experts;
  ids += n * chosen;
  const float divisor = Divisor(scores, ids, chosen, experts, normalize);
  for (int k = threadIdx.x % kWarp; k < chosen; k += kWarp)
    weights[n * chosen + k] = scores[ExpertAt(ids, k, experts)] / divisor * scale;
}

struct BwdParams {
  const float *logits, *scores, *lse;
  const int32_t* ids;
  const float* dweights;
  const double* load;
  float* dlogits;
  int64_t rows, rows_per_sample;
  int experts, chosen;
  bool sigmoid, normalize;
  float scale;
  double aux_scale;
  float z_scale;
};

// ds of the row's experts in shared memory, without the step from scores to logits
// (cpu/route.cc has the derivation). A lane reads what it wrote itself, but for the chosen.
__device__ void ScoreGradient(const BwdParams& p, int64_t n, const float* scores, float* ds) {
  const int lane = threadIdx.x % kWarp;
  const int32_t* ids = p.ids + n * p.chosen;
  const float* dweights = p.dweights + n * p.chosen;
  for (int e = lane; e < p.experts; e += kWarp) ds[e] = 0;
  const float divisor = Divisor(scores, ids, p.chosen, p.experts, p.normalize);
  float mean = 0;
  if (p.normalize) {
    for (int k = lane; k < p.chosen; k += kWarp)
      mean += dweights[k] * scores[ExpertAt(ids, k, p.experts)] / divisor;
    mean = WarpReduce(mean);
  }
  __syncwarp();
  for (int k = lane; k < p.chosen; k += kWarp)
    ds[ExpertAt(ids, k, p.experts)] = p.scale / divisor * (dweights[k] - mean);
  __syncwarp();
  if (p.load == nullptr) return;

  const double* load = p.load + n / p.rows_per_sample * p.experts;
  const auto g = [&](int e) { return static_cast<float>(p.aux_scale * load[e]); };
  if (!p.sigmoid) {
    for (int e = lane; e < p.experts; e += kWarp) ds[e] += g(e);
    return;
  }
  float sum = 0, dot = 0;
  for (int e = lane; e < p.experts; e += kWarp) {
    sum += scores[e];
    dot += g(e) * scores[e];
  }
  sum = WarpReduce(sum) + kEpsilon;
  dot = WarpReduce(dot);
  for (int e = lane; e < p.experts; e += kWarp) ds[e] += (g(e) - dot / sum) / sum;
}

__global__ void __launch_bounds__(kBlock) BwdKernel(const BwdParams p) {
  extern __shared__ float rows_of_ds[];  // [kWarps, E]
  const int64_t n = RowOfWarp();
  if (n >= p.rows) return;
  const int lane = threadIdx.x % kWarp;
  float* const ds = rows_of_ds + threadIdx.x / kWarp * p.experts;
  const float *scores = p.scores + n * p.experts, *logits = p.logits + n * p.experts;
  ScoreGradient(p, n, scores, ds);
  float dot = 0;
  if (!p.sigmoid) {
    for (int e = lane; e < p.experts; e += kWarp) dot += ds[e] * scores[e];
    dot = WarpReduce(dot);
  }
  const float lse = p.lse[n], factor = 2 * p.z_scale * lse;
  for (int e = lane; e < p.experts; e += kWarp) {
    const float s = scores[e];
    float d = p.sigmoid ? ds[e] * s * (1.0f - s) : s * (ds[e] - dot);
    if (p.z_scale != 0) d += factor * expf(logits[e] - lse);
    p.dlogits[n * p.experts + e] = d;
  }
}

// A warp a row; what is not f32 is refused.
dim3 GridOf(const TensorRef& scores) {
  if (scores.dtype != DType::kF32)
    Fail(__FILE__, __LINE__, "the router on CUDA is f32", cudaErrorNotSupported);
  return dim3(static_cast<unsigned>((scores.dim(0) + kWarps - 1) / kWarps));
}

template <int kPerLane>
void Choose(const ChooseExpertsArgs& args, Stream stream) {
  LaunchGrid(ChooseKernel<kPerLane>, GridOf(args.scores), kBlock, 0, stream,
             args.scores.As<float>(), args.bias.As<float>(), args.ids.As<int32_t>(),
             args.scores.dim(0), static_cast<int>(args.scores.dim(1)),
             static_cast<int>(args.ids.dim(1)));
}

}  // namespace

void RouteScores(const RouteScoresArgs& args, Stream stream) {
  LaunchGrid(ScoresKernel, GridOf(args.logits), kBlock, 0, stream, args.logits.As<float>(),
             args.scores.As<float>(), args.lse.As<float>(), args.logits.dim(0),
             static_cast<int>(args.logits.dim(1)), args.kind == RouterKind::kSigmoid);
}

void ChooseExperts(const ChooseExpertsArgs& args, Stream stream) {
  const int64_t experts = args.scores.dim(1);
  if (experts <= kWarp) return Choose<1>(args, stream);
  if (experts <= 2 * kWarp) return Choose<2>(args, stream);
  if (experts <= 4 * kWarp) return Choose<4>(args, stream);
  if (experts <= 8 * kWarp) return Choose<8>(args, stream);
  if (experts <= 16 * kWarp) return Choose<16>(args, stream);
  static_assert(kMaxExperts == 32 * kWarp);
  Choose<32>(args, stream);
}

void RouteWeights(const RouteWeightsArgs& args, Stream stream) {
  LaunchGrid(WeightsKernel, GridOf(args.scores), kBlock, 0, stream, args.scores.As<float>(),
             args.ids.As<int32_t>(), args.weights.As<float>(), args.scores.dim(0),
             static_cast<int>(args.scores.dim(1)), static_cast<int>(args.ids.dim(1)),
             args.normalize, static_cast<float>(args.scale));
}

void RouteBwd(const RouteBwdArgs& args, Stream stream) {
  const int64_t rows = args.scores.dim(0), experts = args.scores.dim(1);
  BwdParams p = {};
  p.logits = args.logits.As<float>();
  p.scores = args.scores.As<float>();
  p.lse = args.lse.As<float>();
  p.ids = args.ids.As<int32_t>();
  p.dweights = args.dweights.As<float>();
  p.load = args.load.As<double>();
  p.dlogits = args.dlogits.As<float>();
  p.rows = rows;
  p.rows_per_sample = args.load.defined() ? rows / args.load.dim(0) : rows;
  p.experts = static_cast<int>(experts);
  p.chosen = static_cast<int>(args.ids.dim(1));
  p.sigmoid = args.kind == RouterKind::kSigmoid;
  p.normalize = args.normalize;
  p.scale = static_cast<float>(args.scale);
  p.aux_scale = args.aux_scale;
  p.z_scale = static_cast<float>(args.z_scale);
  LaunchGrid(BwdKernel, GridOf(args.scores), kBlock, kWarps * experts * 4, stream, p);
}

}  // namespace lacuna::cuda
