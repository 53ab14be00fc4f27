// Inputs of benchmarks, made where they are needed: nothing large exists on the host.
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "recipes/benchmark/benchmark_row.h"

namespace lacuna {

// Normal numbers with this standard deviation.
Tensor NormalTensor(Shape shape, DType dtype, Device device, uint64_t seed, double std = 1);
Tensor FilledTensor(Shape shape, DType dtype, Device device, double value);
// [n] i32 in [0, bound).
Tensor UniformIds(int64_t n, int64_t bound, uint64_t seed, Device device);

// Choices of experts and what SortByExpert makes of them.
struct RoutedChoices {
  Tensor ids;       // [N, K] i32
  Tensor position;  // [N, K] i32
  Tensor offsets;   // [E + 1] i64
};
RoutedChoices RouteRows(const BenchSizes& sizes, int64_t tokens, Device device);

}  // namespace lacuna
