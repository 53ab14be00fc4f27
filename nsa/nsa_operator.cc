#include "nsa/nsa_operator.h"

#include <cmath>
#include <utility>

#include "autograd/functions/attention.h"
#include "autograd/functions/rope.h"
#include "nsa/gate_combine.h"
#include "nsa/select_blocks.h"
#include "nsa/selected_attention.h"

namespace lacuna {

Variable SelectedAttention(Tape& tape, const Variable& q, const Variable& k, const Variable& v,
                           const Tensor& blocks, const Tensor& positions, const Tensor& cu_queries,
                           const Tensor& cu_keys, int64_t select_block, double scale) {
  const Stream stream = tape.stream();
  Tensor o = Tensor::Empty({q.dim(0), q.dim(1), v.dim(2)}, q.dtype(), q.value().device());
  Tensor lse = Tensor::Empty({q.dim(0), q.dim(1)}, AccumulationType(q.dtype()), q.value().device());
  ops::SelectedAttentionFwd({.q = q.value().Ref(),
                             .k = k.value().Ref(),
                             .v = v.value().Ref(),
                             .blocks = blocks.Ref(),
                             .positions = positions.Ref(),
                             .cu_queries = cu_queries.Ref(),
                             .cu_keys = cu_keys.Ref(),
                             .o = o.MutableRef(),
                             .lse = lse.MutableRef(),
                             .scale = scale,
                             .select_block = select_block},
                            stream);
  return tape.Record(
      "selected_attention", {q, k, v}, {}, o,
      [=, q = SavedTensor(q.value()), k = SavedTensor(k.value()), v = SavedTensor(v.value()),
       o = SavedTensor(o), lse = SavedTensor(lse), blocks = SavedTensor(blocks)](GradContext& g) {
        Tensor dq = Tensor::EmptyLike(q.get()), dk = Tensor::EmptyLike(k.get()),
               dv = Tensor::EmptyLike(v.get());
        ops::SelectedAttentionBwd({.q = q.get().Ref(),
                                   .k = k.get().Ref(),
                                   .v = v.get().Ref(),
                                   .blocks = blocks.get().Ref(),
                                   .positions = positions.Ref(),
                                   .cu_queries = cu_queries.Ref(),
                                   .cu_keys = cu_keys.Ref(),
                                   .o = o.get().Ref(),
                                   .lse = lse.get().Ref(),
                                   .d_o = g.dy().Ref(),
                                   .dq = dq.MutableRef(),
                                   .dk = dk.MutableRef(),
                                   .dv = dv.MutableRef(),
                                   .scale = scale,
                                   .select_block = select_block},
                                  stream);
        g.Set(0, std::move(dq));
        g.Set(1, std::move(dk));
        g.Set(2, std::move(dv));
      });
}

Variable GateCombine(Tape& tape, const Variable& gate, const Variable& o_cmp, const Variable& o_slc,
                     const Variable& o_win) {
  const Stream stream = tape.stream();
  Tensor o = Tensor::EmptyLike(o_cmp.value());
  ops::GateCombineFwd({gate.value().Ref(), o_cmp.value().Ref(), o_slc.value().Ref(),
                       o_win.value().Ref(), o.MutableRef()},
                      stream);
  return tape.Record(
      "gate_combine", {gate, o_cmp, o_slc, o_win}, {}, o,
      [stream, gate = SavedTensor(gate.value()), cmp = SavedTensor(o_cmp.value()),
       slc = SavedTensor(o_slc.value()), win = SavedTensor(o_win.value())](GradContext& g) {
        Tensor dgate = Tensor::EmptyLike(gate.get());
        Tensor d[3] = {Tensor::EmptyLike(g.dy()), Tensor::EmptyLike(g.dy()),
                       Tensor::EmptyLike(g.dy())};
        ops::GateCombineBwd({.gate = gate.get().Ref(),
                             .o_cmp = cmp.get().Ref(),
                             .o_slc = slc.get().Ref(),
                             .o_win = win.get().Ref(),
                             .d_o = g.dy().Ref(),
                             .dgate = dgate.MutableRef(),
                             .do_cmp = d[0].MutableRef(),
                             .do_slc = d[1].MutableRef(),
                             .do_win = d[2].MutableRef()},
                            stream);
        g.Set(0, std::move(dgate));
        for (int c = 0; c < 3; ++c) g.Set(c + 1, std::move(d[c]));
      });
}

namespace {

// Chooses the blocks (or takes the given ones) and fills what else was asked for.
Tensor ChooseBlocks(Tape& tape, const Tensor& q, const Tensor& lse, const NsaGrid& grid,
                    const NsaConfig& config, const NsaOptions& options, double scale,
                    NsaResult* result) {
  if (options.blocks.defined()) return options.blocks;
  return tape.Decide([&] {
    const int64_t n = q.dim(0), groups = result->k_cmp.dim(1);
    Tensor blocks = Tensor::Empty({n, groups, config.num_selected}, DType::kI32, q.device());
    if (options.scores)
      result->scores = Tensor::Empty({n, groups, grid.max_select_blocks}, lse.dtype(), q.device());
    if (options.entropy) result->entropy = Tensor::Empty({n, groups}, lse.dtype(), q.device());
    ops::SelectBlocks(
        {.q = q.Ref(),
         .k_cmp = result->k_cmp.Ref(),
         .lse = lse.Ref(),
         .ranges = grid.cmp_ranges.Ref(),
         .positions = grid.positions.Ref(),
         .cu_queries = grid.cu_seqlens.Ref(),
         .cu_keys = grid.cu_cmp.Ref(),
         .blocks = blocks.MutableRef(),
         .scores = result->scores.defined() ? result->scores.MutableRef() : TensorRef(),
         .entropy = result->entropy.defined() ? result->entropy.MutableRef() : TensorRef(),
         .scale = scale,
         .block = config.block,
         .stride = config.stride,
         .select_block = config.select_block,
         .num_init = config.num_init,
         .num_local = config.num_local},
        tape.stream());
    return std::vector<Tensor>{blocks};
  })[0];
}

}  // namespace

NsaResult AttendBranches(Tape& tape, const NsaInputs& in,
                         const std::shared_ptr<const NsaGrid>& grid, const NsaConfig& config,
                         const NsaOptions& options) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(in.q.dim(2)));
  NsaResult result;
  result.k_cmp = in.k_cmp.value();
  result.v_cmp = in.v_cmp.value();
  result.k_slc = in.k_slc.value();
  result.k_win = in.k_win.value();

  Tensor lse;
  result.o_cmp =
      AttentionOverRanges(tape, in.q, in.k_cmp, in.v_cmp,
                          {grid->cmp_ranges, grid->cu_seqlens, grid->cu_cmp}, scale, &lse);
  result.blocks = ChooseBlocks(tape, in.q.value(), lse, *grid, config, options, scale, &result);
  result.o_slc = SelectedAttention(tape, in.q, in.k_slc, in.v_slc, result.blocks, grid->positions,
                                   grid->cu_seqlens, grid->cu_seqlens, config.select_block, scale);
  result.o_win = AttentionOverRanges(tape, in.q, in.k_win, in.v_win,
                                     {grid->win_ranges, grid->cu_seqlens, grid->cu_seqlens}, scale);
  result.o = GateCombine(tape, in.gate, result.o_cmp, result.o_slc, result.o_win);
  return result;
}

NsaResult NsaOperator(Tape& tape, NsaInputs in, Phi& phi_k, Phi& phi_v,
                      const std::shared_ptr<const NsaGrid>& grid, const RopeTable& rope,
                      const NsaConfig& config, const NsaOptions& options) {
  in.q = Rope(tape, std::move(in.q), grid->positions, rope);
  in.k_cmp = Rope(tape, phi_k.Compress(tape, in.k_cmp, grid), grid->cmp_positions, rope);
  in.v_cmp = phi_v.Compress(tape, in.v_cmp, grid);
  in.k_slc = Rope(tape, std::move(in.k_slc), grid->positions, rope);
  in.k_win = Rope(tape, std::move(in.k_win), grid->positions, rope);
  return AttendBranches(tape, in, grid, config, options);
}

}  // namespace lacuna
