#include "recipes/trainer/matmul_peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/tensor.h"
#include "recipes/trainer/training_step.h"

namespace lacuna {

double MeasureMatMulPeak(DType dtype) {
  constexpr int64_t kSize = 768;
  using Clock = std::chrono::steady_clock;
  Tensor a = Tensor::Empty({kSize, kSize}, dtype), b = Tensor::EmptyLike(a),
         c = Tensor::EmptyLike(a);
  ops::Fill({.y = a.MutableRef(), .value = 0.5}, kCpuStream);
  ops::Fill({.y = b.MutableRef(), .value = 0.25}, kCpuStream);
  double best = 0;
  const auto start = Clock::now();
  for (int i = 0; i < 3 || Clock::now() - start < std::chrono::milliseconds(500); ++i) {
    const auto begin = Clock::now();
    ops::MatMul({.a = a.Ref(), .b = b.Ref(), .c = c.MutableRef()}, kCpuStream);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::max(best, 2.0 * kSize * kSize * kSize / seconds);
  }
  return best;
}

double MeasurePeakOfAllRanks(DType dtype, Communicator& comm) {
  comm.Barrier().Wait();
  std::vector<double> peak{MeasureMatMulPeak(dtype)};
  SumOverRanks(comm, &peak);
  return peak[0];
}

}  // namespace lacuna
