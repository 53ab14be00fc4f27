// The sums a step reports. A block adds up every gridDim.x-th run of kThreads gates and of kThreads
// lists, a thread each; a second kernel adds the blocks' sums in order. The number of blocks is
// fixed, so the sums do not depend on timing or card.
#include "core/cuda/launch.cuh"
#include "core/cuda/memory.h"
#include "core/cuda/reduce.cuh"
#include "nsa/nsa_statistics.h"

namespace lacuna::cuda {
namespace {

constexpr int kBlocks = 256, kSums = static_cast<int>(kNumNsaStatistics);

struct Lists {
  const float *gate, *entropy;
  const int32_t *blocks, *positions;
  int64_t rows, queries;  // tokens and heads; tokens and groups
  int64_t groups, selected, select_block, window;
};

__device__ void AddList(const Lists& lists, int64_t i, double (&sums)[kSums]) {
  const int64_t t = lists.positions[i / lists.groups];
  if (t / lists.select_block + 1 <= lists.selected) return;
  sums[3] += lists.entropy[i];
  sums[4] += 1;
  for (int64_t s = 0; s < lists.selected; ++s) {
    const int64_t j = lists.blocks[i * lists.selected + s];
    if (j < 0) break;
    if ((j + 1) * lists.select_block > t - lists.window + 1) sums[5] += 1;
    sums[6] += 1;
  }
}

// partial: [kBlocks, kSums]
__global__ void __launch_bounds__(kThreads) PartialKernel(Lists lists, double* partial) {
  __shared__ double scratch[kWarp];
  double sums[kSums] = {};
  for (int64_t r = GlobalIndex(); r < lists.rows; r += GridSize()) {
    for (int c = 0; c < 3; ++c) sums[c] += lists.gate[3 * r + c];
  }
  for (int64_t i = GlobalIndex(); i < lists.queries; i += GridSize()) AddList(lists, i, sums);
  for (int k = 0; k < kSums; ++k) {
    const double sum = BlockReduce(sums[k], scratch);
    if (threadIdx.x == 0) partial[blockIdx.x * kSums + k] = sum;
  }
}

__global__ void FinishKernel(const double* partial, double* sums) {
  double sum = 0;
  for (int b = 0; b < kBlocks; ++b) sum += partial[b * kSums + threadIdx.x];
  sums[threadIdx.x] = sum;
}

}  // namespace

void NsaStatistics(const NsaStatisticsArgs& args, Stream stream) {
  if (args.gate.dtype != DType::kF32)
    Fail(__FILE__, __LINE__, "nsa_statistics of gates that are not f32", cudaErrorNotSupported);
  const Lists lists{.gate = args.gate.As<const float>(),
                    .entropy = args.entropy.As<const float>(),
                    .blocks = args.blocks.As<const int32_t>(),
                    .positions = args.positions.As<const int32_t>(),
                    .rows = args.gate.dim(0) * args.gate.dim(1),
                    .queries = args.entropy.numel(),
                    .groups = args.blocks.dim(1),
                    .selected = args.blocks.dim(2),
                    .select_block = args.select_block,
                    .window = args.window};
  const Workspace partial(int64_t{kBlocks} * kSums * 8, stream);
  LaunchGrid(PartialKernel, kBlocks, kThreads, 0, stream, lists, partial.As<double>());
  LaunchGrid(FinishKernel, 1, kSums, 0, stream, partial.As<const double>(), args.sums.As<double>());
}

}  // namespace lacuna::cuda
