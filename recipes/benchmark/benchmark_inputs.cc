#include "recipes/benchmark/benchmark_inputs.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/random_normal.h"
#include "core/random.h"
#include "core/stream.h"
#include "moe/permute.h"
#include "moe/route.h"

namespace lacuna {
namespace {

Tensor RealChoices(const BenchSizes& sizes, int64_t tokens, Device device) {
  const Stream stream = ComputeStream(device);
  const int64_t experts = sizes.moe.num_experts;
  const Tensor x = NormalTensor({tokens, sizes.model.width}, DType::kBF16, device, 901),
               w = NormalTensor({experts, sizes.model.width}, DType::kBF16, device, 902,
                                sizes.model.init_std);
  Tensor logits = Tensor::Empty({tokens, experts}, DType::kF32, device),
         scores = Tensor::EmptyLike(logits), lse = Tensor::Empty({tokens}, DType::kF32, device),
         ids = Tensor::Empty({tokens, sizes.moe.experts_per_token}, DType::kI32, device);
  ops::MatMul({.a = x.Ref(), .b = w.Ref(), .c = logits.MutableRef(), .transpose_b = true}, stream);
  ops::RouteScores({.logits = logits.Ref(),
                    .scores = scores.MutableRef(),
                    .lse = lse.MutableRef(),
                    .kind = sizes.moe.router},
                   stream);
  ops::ChooseExperts({.scores = scores.Ref(), .bias = {}, .ids = ids.MutableRef()}, stream);
  return ids;
}

// K different experts a token: the largest log popularity + Gumbel noise (sampling without
// replacement; Yellott, 1977).
std::vector<int32_t> ZipfChoices(int64_t tokens, int64_t experts, int64_t chosen) {
  std::vector<int32_t> ids, order(static_cast<size_t>(experts));
  std::vector<double> key(static_cast<size_t>(experts));
  for (int64_t n = 0; n < tokens; ++n) {
    for (int64_t e = 0; e < experts; ++e) {
      const double u = PhiloxUniform(1, 903, static_cast<uint64_t>(n * experts + e)) + 1e-18;
      key[static_cast<size_t>(e)] = -std::log(-std::log(u)) - std::log(static_cast<double>(e + 1));
    }
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + chosen, order.end(),
                      [&](int32_t a, int32_t b) {
                        return key[static_cast<size_t>(a)] > key[static_cast<size_t>(b)];
                      });
    ids.insert(ids.end(), order.begin(), order.begin() + chosen);
  }
  return ids;
}

std::vector<int32_t> EvenChoices(int64_t tokens, int64_t experts, int64_t chosen) {
  std::vector<int32_t> ids(static_cast<size_t>(tokens * chosen));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(i % static_cast<size_t>(experts));
  return ids;
}

Tensor Choices(const BenchSizes& sizes, int64_t tokens, Device device) {
  const int64_t experts = sizes.moe.num_experts, chosen = sizes.moe.experts_per_token;
  if (sizes.routing == BenchRouting::kReal) return RealChoices(sizes, tokens, device);
  const std::vector<int32_t> ids = sizes.routing == BenchRouting::kForced
                                       ? EvenChoices(tokens, experts, chosen)
                                       : ZipfChoices(tokens, experts, chosen);
  return Tensor::FromVector(ids, {tokens, chosen}).To(device);
}

}  // namespace

Tensor NormalTensor(Shape shape, DType dtype, Device device, uint64_t seed, double std) {
  const Stream stream = ComputeStream(device);
  Tensor normal = Tensor::Empty(shape, AccumulationType(dtype), device);
  ops::RandomNormal({.y = normal.MutableRef(), .key = 1, .stream = seed, .std = std}, stream);
  if (normal.dtype() == dtype) return normal;
  Tensor rounded = Tensor::Empty(std::move(shape), dtype, device);
  ops::Cast({.x = normal.Ref(), .y = rounded.MutableRef()}, stream);
  return rounded;
}

Tensor FilledTensor(Shape shape, DType dtype, Device device, double value) {
  Tensor tensor = Tensor::Empty(std::move(shape), dtype, device);
  ops::Fill({.y = tensor.MutableRef(), .value = value}, ComputeStream(device));
  return tensor;
}

Tensor UniformIds(int64_t n, int64_t bound, uint64_t seed, Device device) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(PhiloxUniform(1, seed, i) * static_cast<double>(bound));
  return Tensor::FromVector(ids, {n}).To(device);
}

RoutedChoices RouteRows(const BenchSizes& sizes, int64_t tokens, Device device) {
  RoutedChoices routed{.ids = Choices(sizes, tokens, device), .position = {}, .offsets = {}};
  routed.position = Tensor::EmptyLike(routed.ids);
  routed.offsets = Tensor::Empty({sizes.moe.num_experts + 1}, DType::kI64, device);
  ops::SortByExpert({.ids = routed.ids.Ref(),
                     .offsets = routed.offsets.MutableRef(),
                     .position = routed.position.MutableRef()},
                    ComputeStream(device));
  return routed;
}

}  // namespace lacuna
