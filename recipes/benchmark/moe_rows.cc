// Rows of moe/.
#include <algorithm>

#include "core/ops/matmul.h"
#include "core/stream.h"
#include "moe/expert_load.h"
#include "moe/grouped_matmul.h"
#include "moe/grouped_swiglu.h"
#include "moe/permute.h"
#include "moe/route.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/benchmark/op_benchmark.h"

namespace lacuna {
namespace {

constexpr DType kType = DType::kBF16;

double D(int64_t n) {
  return static_cast<double>(n);
}

void AddRouterLogits(int64_t n, const BenchSizes& sizes, Device device, BenchRows& rows) {
  const int64_t c = sizes.model.width, e = sizes.moe.num_experts;
  struct Set {
    Tensor x, w, logits;
  };
  rows.Bytes(
      "router_logits", n, D(n) * D(2 * c + 4 * e) + D(2 * e * c), "N (2C + 4E) + 2EC",
      [=](uint64_t seed) {
        return Set{NormalTensor({n, c}, kType, device, seed),
                   NormalTensor({e, c}, kType, device, 100, 0.02),
                   Tensor::Empty({n, e}, DType::kF32, device)};
      },
      [stream = ComputeStream(device)](Set& s) {
        ops::MatMul(
            {.a = s.x.Ref(), .b = s.w.Ref(), .c = s.logits.MutableRef(), .transpose_b = true},
            stream);
      });
}

struct RouterSet {
  Tensor logits, scores, lse, ids, weights, counts, dweights, dlogits;
};

void RouteForward(RouterSet& s, const MoeConfig& moe, Stream stream) {
  ops::RouteScores({.logits = s.logits.Ref(),
                    .scores = s.scores.MutableRef(),
                    .lse = s.lse.MutableRef(),
                    .kind = moe.router},
                   stream);
  ops::ChooseExperts({.scores = s.scores.Ref(), .bias = {}, .ids = s.ids.MutableRef()}, stream);
  ops::RouteWeights({.scores = s.scores.Ref(),
                     .ids = s.ids.Ref(),
                     .weights = s.weights.MutableRef(),
                     .normalize = moe.normalize_weights,
                     .scale = moe.routed_scale},
                    stream);
  ops::CountChoices({.ids = s.ids.Ref(), .counts = s.counts.MutableRef()}, stream);
}

// Scores, choice, weights and counts; and the gradient of the logits.
void AddRouter(int64_t n, const BenchSizes& sizes, Device device, BenchRows& rows) {
  const int64_t e = sizes.moe.num_experts, k = sizes.moe.experts_per_token;
  const Stream stream = ComputeStream(device);
  const auto make = [=, moe = sizes.moe](uint64_t seed) {
    const Tensor logits = NormalTensor({n, e}, DType::kF32, device, 2 * seed),
                 dweights = NormalTensor({n, k}, DType::kF32, device, 2 * seed + 1);
    RouterSet s{.logits = logits,
                .scores = Tensor::EmptyLike(logits),
                .lse = Tensor::Empty({n}, DType::kF32, device),
                .ids = Tensor::Empty({n, k}, DType::kI32, device),
                .weights = Tensor::EmptyLike(dweights),
                .counts = Tensor::Empty({1, e}, DType::kF64, device),
                .dweights = dweights,
                .dlogits = Tensor::EmptyLike(logits)};
    RouteForward(s, moe, stream);
    return s;
  };
  rows.Bytes("router_fwd", n, D(n) * D(8 * e + 8 * k + 4), "N (8E + 8K + 4)", make,
             [=, moe = sizes.moe](RouterSet& s) { RouteForward(s, moe, stream); });
  rows.Bytes("router_bwd", n, D(n) * D(12 * e + 8 * k + 4), "N (12E + 8K + 4)", make,
             [=, moe = sizes.moe](RouterSet& s) {
               ops::RouteBwd({.logits = s.logits.Ref(),
                              .scores = s.scores.Ref(),
                              .lse = s.lse.Ref(),
                              .ids = s.ids.Ref(),
                              .dweights = s.dweights.Ref(),
                              .load = {},
                              .dlogits = s.dlogits.MutableRef(),
                              .kind = moe.router,
                              .normalize = moe.normalize_weights,
                              .scale = moe.routed_scale},
                             stream);
             });
}

void AddSort(int64_t n, const BenchSizes& sizes, Device device, BenchRows& rows) {
  const int64_t e = sizes.moe.num_experts, k = sizes.moe.experts_per_token;
  rows.Bytes(
      "sort_by_expert", n, 8 * D(n * k) + 8 * D(e + 1), "8NK + 8 (E + 1)",
      [=](uint64_t) { return RouteRows(sizes, n, device); },
      [stream = ComputeStream(device)](RoutedChoices& s) {
        ops::SortByExpert({.ids = s.ids.Ref(),
                           .offsets = s.offsets.MutableRef(),
                           .position = s.position.MutableRef()},
                          stream);
      });
}

struct PermuteSet {
  RoutedChoices routed;
  Tensor tokens, rows, w;
};

void AddPermute(int64_t n, const BenchSizes& sizes, Device device, BenchRows& rows) {
  const int64_t c = sizes.model.width, k = sizes.moe.experts_per_token, r = n * k;
  const Stream stream = ComputeStream(device);
  const auto make = [=](uint64_t seed) {
    return PermuteSet{.routed = RouteRows(sizes, n, device),
                      .tokens = NormalTensor({n, c}, kType, device, 3 * seed + 1),
                      .rows = NormalTensor({r, c}, kType, device, 3 * seed + 2),
                      .w = NormalTensor({n, k}, DType::kF32, device, 3 * seed)};
  };
  const double moved = 2 * D(c) * D(n + r);
  rows.Bytes("permute_rows", n, moved + 4 * D(r), "2C (N + R) + 4R", make, [=](PermuteSet& s) {
    ops::PermuteRows(
        {.x = s.tokens.Ref(), .position = s.routed.position.Ref(), .y = s.rows.MutableRef()},
        stream);
  });
  rows.Bytes("unpermute_rows", n, moved + 8 * D(r), "2C (N + R) + 8R", make, [=](PermuteSet& s) {
    ops::UnpermuteRows({.x = s.rows.Ref(),
                        .position = s.routed.position.Ref(),
                        .w = s.w.Ref(),
                        .y = s.tokens.MutableRef()},
                       stream);
  });
}

struct ProductSet {
  RoutedChoices routed;
  Tensor x, w, y, dw;
};

// The three products of one matrix of the experts: name_fwd, name_dx, name_dw (set) and
// name_dw_add.
void AddProducts(const std::string& name, int64_t n, int64_t in, int64_t out,
                 const std::string& flops_text, const BenchSizes& sizes, Device device,
                 BenchRows& rows) {
  const int64_t e = sizes.moe.num_experts, r = n * sizes.moe.experts_per_token;
  const Stream stream = ComputeStream(device);
  const auto make = [=](uint64_t seed) {
    return ProductSet{.routed = RouteRows(sizes, n, device),
                      .x = NormalTensor({r, in}, kType, device, 3 * seed),
                      .w = NormalTensor({e, out, in}, kType, device, 3 * seed + 1, 0.02),
                      .y = NormalTensor({r, out}, kType, device, 3 * seed + 2),
                      .dw = Tensor::Zeros({e, out, in}, DType::kF32, device)};
  };
  const double flops = 2 * D(r) * D(in) * D(out),
               bytes = 2 * D(r) * D(in + out) + 2 * D(e * in * out);
  rows.Flops(name + "_fwd", n, flops, flops_text, bytes, make, [=](ProductSet& s) {
    ops::GroupedMatMul(
        {.x = s.x.Ref(), .w = s.w.Ref(), .offsets = s.routed.offsets.Ref(), .y = s.y.MutableRef()},
        stream);
  });
  rows.Flops(name + "_dx", n, flops, flops_text, bytes, make, [=](ProductSet& s) {
    ops::GroupedMatMul({.x = s.y.Ref(),
                        .w = s.w.Ref(),
                        .offsets = s.routed.offsets.Ref(),
                        .y = s.x.MutableRef(),
                        .transpose_w = false},
                       stream);
  });
  for (const bool accumulate : {false, true}) {
    rows.Flops(name + (accumulate ? "_dw_add" : "_dw"), n, flops, flops_text, bytes, make,
               [=](ProductSet& s) {
                 ops::GroupedMatMulDw({.dy = s.y.Ref(),
                                       .x = s.x.Ref(),
                                       .offsets = s.routed.offsets.Ref(),
                                       .dw = s.dw.MutableRef(),
                                       .accumulate = accumulate},
                                      stream);
               });
  }
}

struct SwiGluSet {
  RoutedChoices routed;
  Tensor x, w, z, h;
};

void AddGroupedSwiGlu(int64_t n, const BenchSizes& sizes, Device device, BenchRows& rows) {
  const int64_t c = sizes.model.width, f = sizes.moe.expert_width, e = sizes.moe.num_experts,
                r = n * sizes.moe.experts_per_token;
  rows.Flops(
      "grouped_swiglu", n, 2 * D(r) * D(c) * D(2 * f), "2 R C 2F",
      2 * D(r) * D(c + 3 * f) + 2 * D(e * c * 2 * f),
      [=](uint64_t seed) {
        return SwiGluSet{.routed = RouteRows(sizes, n, device),
                         .x = NormalTensor({r, c}, kType, device, 3 * seed),
                         .w = NormalTensor({e, 2 * f, c}, kType, device, 3 * seed + 1, 0.02),
                         .z = Tensor::Empty({r, 2 * f}, kType, device),
                         .h = Tensor::Empty({r, f}, kType, device)};
      },
      [stream = ComputeStream(device)](SwiGluSet& s) {
        ops::GroupedSwiGlu({.x = s.x.Ref(),
                            .w = s.w.Ref(),
                            .offsets = s.routed.offsets.Ref(),
                            .z = s.z.MutableRef(),
                            .h = s.h.MutableRef()},
                           stream);
      });
}

struct SwiGluBwdSet {
  RoutedChoices routed;
  Tensor dy, down, z, w, dz, wh, dw;
};

void AddRoutedSwiGluBwd(int64_t n, const BenchSizes& sizes, Device device, BenchRows& rows) {
  const int64_t c = sizes.model.width, f = sizes.moe.expert_width, e = sizes.moe.num_experts,
                k = sizes.moe.experts_per_token, r = n * k;
  rows.Flops(
      "routed_swiglu_bwd", n, 2 * D(r) * D(c) * D(f), "2 R C F",
      2 * D(r) * D(c + 5 * f) + 2 * D(e * c * f),
      [=](uint64_t seed) {
        const Tensor z = NormalTensor({r, 2 * f}, kType, device, 4 * seed),
                     w = NormalTensor({n, k}, DType::kF32, device, 4 * seed + 2);
        return SwiGluBwdSet{.routed = RouteRows(sizes, n, device),
                            .dy = NormalTensor({r, c}, kType, device, 4 * seed + 1),
                            .down = NormalTensor({e, c, f}, kType, device, 4 * seed + 3, 0.02),
                            .z = z,
                            .w = w,
                            .dz = Tensor::EmptyLike(z),
                            .wh = Tensor::Empty({r, f}, kType, device),
                            .dw = Tensor::EmptyLike(w)};
      },
      [stream = ComputeStream(device)](SwiGluBwdSet& s) {
        ops::RoutedSwiGluBwd({.dy = s.dy.Ref(),
                              .down = s.down.Ref(),
                              .offsets = s.routed.offsets.Ref(),
                              .z = s.z.Ref(),
                              .position = s.routed.position.Ref(),
                              .w = s.w.Ref(),
                              .dz = s.dz.MutableRef(),
                              .wh = s.wh.MutableRef(),
                              .dw = s.dw.MutableRef()},
                             stream);
      });
}

}  // namespace

void AddMoeRows(const BenchSizes& sizes, Device device, BenchRows& rows) {
  const int64_t c = sizes.model.width, f = sizes.moe.expert_width;
  for (const int64_t n : {sizes.tokens, 4 * sizes.tokens}) {
    AddRouterLogits(n, sizes, device, rows);
    AddRouter(n, sizes, device, rows);
    AddSort(n, sizes, device, rows);
    AddPermute(n, sizes, device, rows);
    AddGroupedSwiGlu(n, sizes, device, rows);
    AddRoutedSwiGluBwd(n, sizes, device, rows);
    AddProducts("grouped_up", n, c, 2 * f, "2 R C 2F", sizes, device, rows);
    AddProducts("grouped_down", n, f, c, "2 R F C", sizes, device, rows);
  }
}

}  // namespace lacuna
