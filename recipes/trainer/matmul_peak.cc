#include "recipes/trainer/matmul_peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/random_normal.h"
#include "core/stream.h"
#include "core/tensor.h"
#include "recipes/trainer/training_step.h"

namespace lacuna {
namespace {

// Multiplying constants draws less power and runs faster than any training does.
Tensor RandomSquare(int64_t size, DType dtype, Device device, uint64_t stream_number) {
  const Stream stream = ComputeStream(device);
  Tensor normal = Tensor::Empty({size, size}, AccumulationType(dtype), device);
  ops::RandomNormal({.y = normal.MutableRef(), .key = 1, .stream = stream_number, .std = 1},
                    stream);
  if (normal.dtype() == dtype) return normal;
  Tensor rounded = Tensor::Empty({size, size}, dtype, device);
  ops::Cast({.x = normal.Ref(), .y = rounded.MutableRef()}, stream);
  return rounded;
}

}  // namespace

double MeasureMatMulPeak(DType dtype, Device device) {
  using Clock = std::chrono::steady_clock;
  const Stream stream = ComputeStream(device);
  // Large enough to fill what multiplies, several times over on a card.
  const bool on_cpu = device == kCpu;
  const int64_t size = on_cpu ? 768 : 8192, products = on_cpu ? 1 : 4;
  const Tensor a = RandomSquare(size, dtype, device, 1), b = RandomSquare(size, dtype, device, 2);
  Tensor c = Tensor::EmptyLike(a);
  double best = 0;
  const auto start = Clock::now();
  for (int i = 0; i < 3 || Clock::now() - start < std::chrono::milliseconds(500); ++i) {
    Synchronize(stream);
    const auto begin = Clock::now();
    for (int64_t k = 0; k < products; ++k)
      ops::MatMul({.a = a.Ref(), .b = b.Ref(), .c = c.MutableRef()}, stream);
    Synchronize(stream);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count(),
                 n = static_cast<double>(size);
    best = std::max(best, 2.0 * static_cast<double>(products) * n * n * n / seconds);
  }
  return best;
}

double MeasurePeakOfAllRanks(DType dtype, Device device, Communicator& comm) {
  comm.Barrier().Wait();
  std::vector<double> peak{MeasureMatMulPeak(dtype, device)};
  SumOverRanks(comm, &peak);
  return peak[0];
}

}  // namespace lacuna
