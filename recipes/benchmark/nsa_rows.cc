// Rows of nsa/ beside its attention: what moves memory.
#include "core/stream.h"
#include "nsa/block_gather.h"
#include "nsa/gate_combine.h"
#include "nsa/nsa_grid.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/benchmark/op_benchmark.h"

namespace lacuna {
namespace {

constexpr DType kType = DType::kBF16;

double D(int64_t n) {
  return static_cast<double>(n);
}

void AddGather(const BenchSizes& sizes, Device device, BenchRows& rows) {
  struct Set {
    Tensor x, pos, blocks, dx, dpos;
  };
  const Stream stream = ComputeStream(device);
  const NsaConfig nsa = sizes.nsa;
  const int64_t t = sizes.tokens, g = sizes.model.num_groups, d = sizes.model.head_dim_qk,
                tc = NumCompressed(t, nsa.block, nsa.stride);
  const double bytes = 2 * D(g * d) * D(t + tc * nsa.block);
  const auto make = [=](uint64_t seed) {
    const Tensor x = NormalTensor({t, g, d}, kType, device, 2 * seed);
    return Set{.x = x,
               .pos = NormalTensor({nsa.block, d}, kType, device, 100),
               .blocks = NormalTensor({tc * g, nsa.block * d}, kType, device, 2 * seed + 1),
               .dx = Tensor::EmptyLike(x),
               .dpos = Tensor::Zeros({nsa.block, d}, DType::kF32, device)};
  };
  rows.Bytes("gather_blocks_fwd", t, bytes, "2 G Dk (T + Tc l)", make, [=](Set& s) {
    ops::GatherBlocksFwd({.x = s.x.Ref(),
                          .pos = s.pos.Ref(),
                          .blocks = s.blocks.MutableRef(),
                          .block = nsa.block,
                          .stride = nsa.stride},
                         stream);
  });
  rows.Bytes("gather_blocks_bwd", t, bytes, "2 G Dk (T + Tc l)", make, [=](Set& s) {
    ops::GatherBlocksBwd({.dblocks = s.blocks.Ref(),
                          .dx = s.dx.MutableRef(),
                          .dpos = s.dpos.MutableRef(),
                          .block = nsa.block,
                          .stride = nsa.stride},
                         stream);
  });
}

void AddGate(int64_t n, const ModelConfig& m, Device device, BenchRows& rows) {
  struct Set {
    Tensor gate, o_cmp, o_slc, o_win, o, lse, d_o, dgate, delta, weighted_lse;
  };
  const Stream stream = ComputeStream(device);
  const int64_t h = m.num_heads, d = m.head_dim_v;
  const auto make = [=](uint64_t seed) {
    const auto output = [&](uint64_t i) {
      return NormalTensor({n, h, d}, kType, device, 8 * seed + i);
    };
    const auto ones = [&](const Shape& shape) {
      return Tensor::FromVector(std::vector<float>(static_cast<size_t>(NumElements(shape)), 0.5F),
                                shape)
          .To(device);
    };
    const Tensor o = output(0), gate = ones({n, h, 3}), lse = ones({n, h});
    return Set{.gate = gate,
               .o_cmp = output(1),
               .o_slc = output(2),
               .o_win = output(3),
               .o = o,
               .lse = lse,
               .d_o = output(4),
               .dgate = Tensor::EmptyLike(gate),
               .delta = Tensor::EmptyLike(gate).Reshape({3, n, h}),
               .weighted_lse = Tensor::EmptyLike(gate).Reshape({3, n, h})};
  };
  rows.Bytes("gate_combine_fwd", n, D(n * h) * D(8 * d + 12), "N H (8Dv + 12)", make, [=](Set& s) {
    ops::GateCombineFwd({.gate = s.gate.Ref(),
                         .o_cmp = s.o_cmp.Ref(),
                         .o_slc = s.o_slc.Ref(),
                         .o_win = s.o_win.Ref(),
                         .o = s.o.MutableRef()},
                        stream);
  });
  rows.Bytes("gate_combine_bwd", n, D(n * h) * D(8 * d + 60), "N H (8Dv + 60)", make, [=](Set& s) {
    ops::GateCombineBwd({.gate = s.gate.Ref(),
                         .o_cmp = s.o_cmp.Ref(),
                         .o_slc = s.o_slc.Ref(),
                         .o_win = s.o_win.Ref(),
                         .lse_cmp = s.lse.Ref(),
                         .lse_slc = s.lse.Ref(),
                         .lse_win = s.lse.Ref(),
                         .d_o = s.d_o.Ref(),
                         .dgate = s.dgate.MutableRef(),
                         .delta = s.delta.MutableRef(),
                         .weighted_lse = s.weighted_lse.MutableRef()},
                        stream);
  });
}

}  // namespace

void AddNsaRows(const BenchSizes& sizes, Device device, BenchRows& rows) {
  AddGather(sizes, device, rows);
  for (const int64_t n : {sizes.tokens, 4 * sizes.tokens}) AddGate(n, sizes.model, device, rows);
}

}  // namespace lacuna
