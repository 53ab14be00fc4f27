// Rows of core/ops.
#include "core/ops/adamw.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/reduce.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rope.h"
#include "core/ops/swiglu.h"
#include "core/rope_table.h"
#include "core/stream.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/benchmark/op_benchmark.h"

namespace lacuna {
namespace {

constexpr DType kType = DType::kBF16;

double D(int64_t n) {
  return static_cast<double>(n);
}

void AddAdd(int64_t n, int64_t c, Device device, BenchRows& rows) {
  struct Set {
    Tensor a, b, y;
  };
  rows.Bytes(
      "add", n, 6 * D(n * c), "6NC",
      [=](uint64_t seed) {
        return Set{NormalTensor({n, c}, kType, device, 2 * seed),
                   NormalTensor({n, c}, kType, device, 2 * seed + 1),
                   Tensor::Empty({n, c}, kType, device)};
      },
      [stream = ComputeStream(device)](Set& s) {
        ops::Add({.a = s.a.Ref(), .b = s.b.Ref(), .y = s.y.MutableRef()}, stream);
      });
}

// `name`_fwd and _bwd of `n` rows of `c`, for `tokens` tokens.
void AddNorm(const std::string& name, int64_t tokens, int64_t n, int64_t c,
             const std::string& rows_text, Device device, BenchRows& rows) {
  struct Set {
    Tensor x, w, y, rstd, dy, dx, dw;
  };
  const Stream stream = ComputeStream(device);
  const auto make = [=](uint64_t seed) {
    const Tensor x = NormalTensor({n, c}, kType, device, 2 * seed);
    return Set{.x = x,
               .w = FilledTensor({c}, kType, device, 1),
               .y = Tensor::EmptyLike(x),
               .rstd = FilledTensor({n}, DType::kF32, device, 1),
               .dy = NormalTensor({n, c}, kType, device, 2 * seed + 1),
               .dx = Tensor::EmptyLike(x),
               .dw = Tensor::Zeros({c}, DType::kF32, device)};
  };
  rows.Bytes(name + "_fwd", tokens, D(n) * D(4 * c + 4), rows_text + " (4 width + 4)", make,
             [=](Set& s) {
               ops::RmsNormFwd({.x = s.x.Ref(),
                                .w = s.w.Ref(),
                                .y = s.y.MutableRef(),
                                .rstd = s.rstd.MutableRef(),
                                .eps = 1e-5},
                               stream);
             });
  rows.Bytes(name + "_bwd", tokens, D(n) * D(6 * c + 4), rows_text + " (6 width + 4)", make,
             [=](Set& s) {
               ops::RmsNormBwd({.x = s.x.Ref(),
                                .w = s.w.Ref(),
                                .rstd = s.rstd.Ref(),
                                .dy = s.dy.Ref(),
                                .dx = s.dx.MutableRef(),
                                .dw = s.dw.MutableRef()},
                               stream);
             });
}

void AddRope(int64_t n, const ModelConfig& m, Device device, BenchRows& rows) {
  struct Set {
    Tensor x, y, positions;
    RopeTable table;
  };
  rows.Bytes(
      "rope", n, D(n) * D(4 * m.num_heads * m.head_dim_qk + 4 + 4 * m.rotary_dims),
      "N (4 H Dk + 4 + 4 rotary)",
      [=](uint64_t seed) {
        const Shape shape = {n, m.num_heads, m.head_dim_qk};
        std::vector<int32_t> positions(static_cast<size_t>(n));
        for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i);
        Set set{.x = NormalTensor(shape, kType, device, seed),
                .y = Tensor::Empty(shape, kType, device),
                .positions = Tensor::FromVector(positions, {n}).To(device),
                .table = RopeTable({.rotary_dims = m.rotary_dims, .theta = m.rope_theta}, kType,
                                   device)};
        set.table.Prepare(n);
        return set;
      },
      [stream = ComputeStream(device)](Set& s) {
        ops::Rope({.x = s.x.Ref(),
                   .positions = s.positions.Ref(),
                   .cos = s.table.cos().Ref(),
                   .sin = s.table.sin().Ref(),
                   .y = s.y.MutableRef()},
                  stream);
      });
}

// Of `n` rows of hidden width `f`, for `tokens` tokens.
void AddSwiGlu(const std::string& name, int64_t tokens, int64_t n, int64_t f,
               const std::string& letters, Device device, BenchRows& rows) {
  struct Set {
    Tensor x, h, dh, dx;
  };
  const Stream stream = ComputeStream(device);
  const auto make = [=](uint64_t seed) {
    const Tensor x = NormalTensor({n, 2 * f}, kType, device, 2 * seed),
                 dh = NormalTensor({n, f}, kType, device, 2 * seed + 1);
    return Set{x, Tensor::EmptyLike(dh), dh, Tensor::EmptyLike(x)};
  };
  rows.Bytes(name + "_fwd", tokens, 6 * D(n * f), "6" + letters, make,
             [=](Set& s) { ops::SwiGluFwd({.x = s.x.Ref(), .h = s.h.MutableRef()}, stream); });
  rows.Bytes(name + "_bwd", tokens, 10 * D(n * f), "10" + letters, make, [=](Set& s) {
    ops::SwiGluBwd({.x = s.x.Ref(), .dh = s.dh.Ref(), .dx = s.dx.MutableRef()}, stream);
  });
}

void AddEmbedding(int64_t n, const ModelConfig& m, Device device, BenchRows& rows) {
  const int64_t c = m.width, v = m.vocab_size;
  struct FwdSet {
    Tensor w, ids, y;
  };
  const Stream stream = ComputeStream(device);
  rows.Bytes(
      "embedding_fwd", n, D(n) * D(4 * c + 4), "N (4C + 4)",
      [=](uint64_t seed) {
        return FwdSet{FilledTensor({v, c}, kType, device, 1), UniformIds(n, v, seed, device),
                      Tensor::Empty({n, c}, kType, device)};
      },
      [=](FwdSet& s) {
        ops::EmbeddingFwd({.w = s.w.Ref(), .ids = s.ids.Ref(), .y = s.y.MutableRef()}, stream);
      });
  struct BwdSet {
    Tensor ids, dy, dw;
  };
  const double distinct = D(v) * -std::expm1(D(n) * std::log1p(-1 / D(v)));
  rows.Bytes(
      "embedding_bwd", n, D(n) * D(2 * c + 4) + 8 * D(c) * distinct,
      "N (2C + 4) + 8C V (1 - (1 - 1/V)^N)",
      [=](uint64_t seed) {
        return BwdSet{UniformIds(n, v, seed, device), NormalTensor({n, c}, kType, device, seed),
                      Tensor::Zeros({v, c}, DType::kF32, device)};
      },
      [=](BwdSet& s) {
        ops::EmbeddingBwd({.ids = s.ids.Ref(), .dy = s.dy.Ref(), .dw = s.dw.MutableRef()}, stream);
      });
}

void AddCrossEntropy(int64_t n, int64_t v, Device device, BenchRows& rows) {
  struct Set {
    Tensor logits, targets, loss;
  };
  rows.Bytes(
      "cross_entropy", n, 4 * D(n * v) + 8 * D(n), "N (4V + 8)",
      [=](uint64_t seed) {
        return Set{NormalTensor({n, v}, kType, device, seed), UniformIds(n, v, seed, device),
                   Tensor::Empty({n}, DType::kF32, device)};
      },
      [=, stream = ComputeStream(device)](Set& s) {
        ops::CrossEntropy({.logits = s.logits.MutableRef(),
                           .targets = s.targets.Ref(),
                           .loss = s.loss.MutableRef(),
                           .with_gradient = true,
                           .scale = 1 / D(n)},
                          stream);
      });
}

void AddAdamW(const std::string& name, int64_t n, DType moments, Device device, BenchRows& rows) {
  struct Set {
    Tensor master, value, grad, m, v, scale;
  };
  // Read and written: master, m and v; read: grad; written: value.
  const int64_t bytes = 8 + 4 * SizeOf(moments) + 4 + SizeOf(kType);
  rows.Bytes(
      name, 0, D(bytes * n), std::to_string(bytes) + "n",
      [=](uint64_t seed) {
        return Set{.master = NormalTensor({n}, DType::kF32, device, 2 * seed),
                   .value = Tensor::Empty({n}, kType, device),
                   .grad = NormalTensor({n}, DType::kF32, device, 2 * seed + 1),
                   .m = FilledTensor({n}, moments, device, 1e-3),
                   .v = FilledTensor({n}, moments, device, 1e-3),
                   .scale = FilledTensor({1}, DType::kF64, device, 1)};
      },
      [stream = ComputeStream(device)](Set& s) {
        ops::AdamW({.master = s.master.MutableRef(),
                    .value = s.value.MutableRef(),
                    .grad = s.grad.Ref(),
                    .m = s.m.MutableRef(),
                    .v = s.v.MutableRef(),
                    .gradient_scale = s.scale.Ref(),
                    .learning_rate = 1e-6,
                    .beta1 = 0.9,
                    .beta2 = 0.95,
                    .eps = 1e-8,
                    .weight_decay = 0.1,
                    .step = 100},
                   stream);
      });
}

void AddSumOfSquares(int64_t n, Device device, BenchRows& rows) {
  struct Set {
    Tensor x, result;
  };
  rows.Bytes(
      "sum_of_squares", 0, 4 * D(n), "4n",
      [=](uint64_t seed) {
        return Set{NormalTensor({n}, DType::kF32, device, seed),
                   Tensor::Empty({1}, DType::kF64, device)};
      },
      [stream = ComputeStream(device)](Set& s) {
        ops::SumOfSquares({.x = s.x.Ref(), .result = s.result.MutableRef()}, stream);
      });
}

}  // namespace

void AddCoreRows(const BenchSizes& sizes, Device device, BenchRows& rows) {
  const ModelConfig& m = sizes.model;
  const int64_t chosen = sizes.moe.experts_per_token;
  for (const int64_t n : {sizes.tokens, 4 * sizes.tokens}) {
    AddAdd(n, m.width, device, rows);
    AddNorm("rms_norm", n, n, m.width, "N", device, rows);
    AddNorm("qk_norm", n, n * m.num_heads, m.head_dim_qk, "N H", device, rows);
    AddRope(n, m, device, rows);
    AddSwiGlu("swiglu_experts", n, n * chosen, sizes.moe.expert_width, "RF", device, rows);
    AddSwiGlu("swiglu_dense", n, n, m.dense_width, "NF", device, rows);
    AddEmbedding(n, m, device, rows);
  }
  // As many rows as the head's loss has in a chunk, and more.
  for (const int64_t n : {std::max<int64_t>(1, sizes.tokens / 4), sizes.tokens})
    AddCrossEntropy(n, m.vocab_size, device, rows);
  AddSumOfSquares(sizes.parameters, device, rows);
  AddAdamW("adamw", sizes.parameters, DType::kF32, device, rows);
  AddAdamW("adamw_bf16_moments", sizes.parameters, DType::kBF16, device, rows);
}

}  // namespace lacuna
