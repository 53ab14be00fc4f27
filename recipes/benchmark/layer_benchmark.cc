#include "recipes/benchmark/layer_benchmark.h"

#include "core/allocator.h"
#include "core/stream.h"
#include "moe/moe_layer.h"
#include "nn/flat_parameters.h"
#include "nn/gqa_attention.h"
#include "nn/transformer_block.h"
#include "nsa/nsa_attention.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/model_builder.h"
#include "recipes/plan/model_size.h"

namespace lacuna {
namespace {

constexpr DType kType = DType::kBF16;

double D(int64_t n) {
  return static_cast<double>(n);
}

// A module on its own with its parameters.
template <class M>
struct Layer {
  std::shared_ptr<M> module;
  std::shared_ptr<FlatParameters> parameters;
  PackedSequences sequences;
  Tensor x, dy;
  bool deterministic = true;
};

template <class M>
Layer<M> MakeLayer(std::shared_ptr<M> module, const BenchSizes& sizes, Device device) {
  module->SetName("layer");
  const Shape shape = {sizes.tokens, sizes.model.width};
  Layer<M> layer{.module = std::move(module),
                 .parameters = nullptr,
                 .sequences = PackedSequences::Single(sizes.tokens).To(device),
                 .x = NormalTensor(shape, kType, device, 1),
                 .dy = NormalTensor(shape, kType, device, 2, 1e-3)};
  layer.parameters =
      std::make_shared<FlatParameters>(*layer.module, kType, 1, /*gradients=*/true, device);
  return layer;
}

template <class M>
Variable Forward(Layer<M>& layer, Tape& tape) {
  ForwardContext ctx{.tape = tape,
                     .sequences = layer.sequences,
                     .rows_per_sample = layer.sequences.num_rows(),
                     .deterministic = layer.deterministic};
  const Variable x = tape.recording() ? tape.Leaf(layer.x) : Variable(layer.x);
  if constexpr (std::is_same_v<M, TransformerBlock>) {
    return layer.module->Forward(ctx, x);
  } else {
    return layer.module->Forward(ctx, x, {});
  }
}

template <class M>
void Run(Layer<M>& layer, bool backward, Stream stream) {
  if (backward) layer.parameters->ZeroGrad();  // as the first micro-batch of a step finds them
  Tape tape(backward ? Tape::Mode::kRecord : Tape::Mode::kInference, stream);
  const Variable y = Forward(layer, tape);
  if (backward) tape.Backward({{y, layer.dy}});
}

template <class M>
int64_t HeldForBackward(Layer<M> layer, Device device) {
  const auto in_use = [&] {
    return (device == kCpu ? CpuMemoryStats() : CudaMemoryStats(device)).in_use;
  };
  const int64_t before = in_use();
  Tape tape(Tape::Mode::kRecord, ComputeStream(device));
  const Variable y = Forward(layer, tape);
  return in_use() - before + layer.x.bytes() - y.value().bytes();
}

// Its weights alone are more than the cache holds.
constexpr double kOneSet = 1e12;

template <class Build>
void AddBackward(const std::string& name, double forward_flops, bool deterministic,
                 const BenchSizes& sizes, Device device, Build build, BenchRows& rows) {
  const auto make = [=](uint64_t) {
    auto layer = MakeLayer(build(), sizes, device);
    layer.deterministic = deterministic;
    return layer;
  };
  rows.Flops(
      name + "_fwd_bwd", sizes.tokens, 3 * forward_flops, "3 forward", kOneSet, make,
      [stream = ComputeStream(device)](auto& layer) { Run(layer, /*backward=*/true, stream); });
  rows.rows.back().held = [=] { return HeldForBackward(make(0), device); };
}

// name_fwd and name_fwd_bwd. `build` makes the module.
template <class Build>
void AddLayer(const std::string& name, double forward_flops, const std::string& formula,
              const BenchSizes& sizes, Device device, Build build, BenchRows& rows) {
  rows.Flops(
      name + "_fwd", sizes.tokens, forward_flops, formula, kOneSet,
      [=](uint64_t) { return MakeLayer(build(), sizes, device); },
      [stream = ComputeStream(device)](auto& layer) { Run(layer, /*backward=*/false, stream); });
  AddBackward(name, forward_flops, /*deterministic=*/true, sizes, device, build, rows);
}

AttentionSpec SpecOf(const ModelConfig& m, Device device) {
  return {.width = m.width,
          .num_heads = m.num_heads,
          .num_groups = m.num_groups,
          .head_dim_qk = m.head_dim_qk,
          .head_dim_v = m.head_dim_v,
          .qk_norm = m.qk_norm,
          .norm_eps = m.norm_eps,
          .init_std = m.init_std,
          .out_std = m.init_std,
          .rope = std::make_shared<RopeTable>(RopeSpecOf(m), kType, device)};
}

// Multiply-adds of phi for keys and values, all groups.
double PhiProducts(const BenchSizes& sizes) {
  const auto matrices = [&](int64_t width) {
    return PhiParameters(sizes.nsa, width) -
           (sizes.nsa.phi == PhiKind::kMean ? 0 : sizes.nsa.block * width);
  };
  return D(sizes.model.num_groups * CompressedBlocks(sizes.nsa, sizes.tokens)) *
         D(matrices(sizes.model.head_dim_qk) + matrices(sizes.model.head_dim_v));
}

}  // namespace

std::vector<BenchRow> LayerRows(const BenchSizes& sizes, Device device) {
  BenchRows rows;
  const ModelConfig& m = sizes.model;
  const MoeConfig& e = sizes.moe;
  const double t = D(sizes.tokens), c = D(m.width), h = D(m.num_heads), dk = D(m.head_dim_qk),
               dv = D(m.head_dim_v), kv = D(m.num_groups) * (dk + dv);
  const AttentionPairs pairs = CountPairs(sizes.nsa, sizes.tokens);
  const double outer = c * h * (dk + dv);  // the projections of q and o
  const auto full = [=] { return std::make_shared<GqaAttention>(SpecOf(m, device)); };
  const double full_flops = 2 * t * (outer + c * kv) + 2 * h * D(pairs.full) * (dk + dv);
  AddLayer("attention_full", full_flops, "2T (C H (Dk + Dv) + C G (Dk + Dv)) + 2H pairs (Dk + Dv)",
           sizes, device, full, rows);
  // train.deterministic: false, as PyTorch's is.
  AddBackward("attention_full_atomics", full_flops, /*deterministic=*/false, sizes, device, full,
              rows);
  AddLayer(
      "attention_nsa",
      2 * t * (outer + 3 * c * kv + 3 * h * c) + 2 * PhiProducts(sizes) +
          2 * h * D(pairs.nsa()) * (dk + dv),
      "2T (C H (Dk + Dv) + 3 C G (Dk + Dv) + 3HC) + 2 G Tc phi + 2H pairs (Dk + Dv)", sizes, device,
      [=, nsa = sizes.nsa] { return std::make_shared<NsaAttention>(SpecOf(m, device), nsa); },
      rows);
  const double moe_a_token = 2 * c *
                             (3 * D(e.experts_per_token * e.expert_width) +
                              3 * D(e.num_shared * e.expert_width) + D(e.num_experts));
  for (const int64_t tokens : {sizes.tokens, 4 * sizes.tokens}) {
    BenchSizes these = sizes;
    these.tokens = tokens;
    AddLayer(
        "moe", D(tokens) * moe_a_token, "2T (K 3C F + 3C F shared + C E)", these, device,
        [=] {
          return std::make_shared<MoeLayer>(m.width, e, m.init_std, m.init_std, kType, device);
        },
        rows);
  }
  AddLayer(
      "block_full", full_flops + t * moe_a_token, "attention_full + moe", sizes, device,
      [=] {
        return std::make_shared<TransformerBlock>(
            m.width, m.norm_eps, std::make_unique<GqaAttention>(SpecOf(m, device)),
            std::make_unique<MoeLayer>(m.width, e, m.init_std, m.init_std, kType, device),
            RecomputePolicy{});
      },
      rows);
  return std::move(rows.rows);
}

}  // namespace lacuna
