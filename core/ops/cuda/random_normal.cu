// Normal numbers: integer arithmetic and one product in f64, the same bits as on the CPU.
#include "core/cuda/launch.cuh"
#include "core/ops/random_normal.h"
#include "core/random.h"

namespace lacuna::cuda {
namespace {

__global__ void RandomNormalKernel(float* y, int64_t n, uint64_t key, uint64_t stream, double std,
                                   uint64_t first) {
  for (int64_t k = GlobalIndex(); k < n; k += GridSize())
    y[k] = static_cast<float>(std * PhiloxNormal(key, stream, first + static_cast<uint64_t>(k)));
}

}  // namespace

void RandomNormal(const RandomNormalArgs& args, Stream stream) {
  if (args.y.dtype != DType::kF32)
    Fail(__FILE__, __LINE__, NameOf(args.y.dtype), cudaErrorNotSupported);
  Launch(RandomNormalKernel, args.y.numel(), stream, args.y.As<float>(), args.y.numel(), args.key,
         args.stream, args.std, args.first);
}

}  // namespace lacuna::cuda
