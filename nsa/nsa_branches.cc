#include "nsa/nsa_branches.h"

#include <cmath>
#include <optional>
#include <utility>

#include "core/ops/attention.h"
#include "core/side_stream.h"
#include "nsa/gate_combine.h"
#include "nsa/select_blocks.h"
#include "nsa/selected_attention.h"

namespace lacuna {
namespace {

struct Output {
  Tensor o, lse;
};

Output EmptyOutput(const Tensor& q, const Tensor& v) {
  return {Tensor::Empty({q.dim(0), q.dim(1), v.dim(2)}, q.dtype(), q.device()),
          Tensor::Empty({q.dim(0), q.dim(1)}, AccumulationType(q.dtype()), q.device())};
}

// The outputs are made before the call, so that it may go on a side stream.
void AttendRanges(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ranges,
                  const Tensor& cu_queries, const Tensor& cu_keys, double scale, Output& out,
                  Stream stream) {
  ops::AttentionFwd({.q = q.Ref(),
                     .k = k.Ref(),
                     .v = v.Ref(),
                     .ranges = ranges.Ref(),
                     .cu_queries = cu_queries.Ref(),
                     .cu_keys = cu_keys.Ref(),
                     .o = out.o.MutableRef(),
                     .lse = out.lse.MutableRef(),
                     .scale = scale},
                    stream);
}

// Chooses the blocks (or takes the given ones) and fills what else was asked for.
void ChooseBlocks(Tape& tape, const Tensor& q, const Tensor& k_cmp, const Tensor& lse,
                  const NsaGrid& grid, const NsaConfig& config, const NsaOptions& options,
                  double scale, NsaBranches* result) {
  if (options.blocks.defined()) {
    result->blocks = options.blocks;
    return;
  }
  result->blocks = tape.Decide([&] {
    const int64_t n = q.dim(0), groups = k_cmp.dim(1);
    Tensor blocks = Tensor::Empty({n, groups, config.num_selected}, DType::kI32, q.device());
    if (options.scores)
      result->scores = Tensor::Empty({n, groups, grid.max_select_blocks}, lse.dtype(), q.device());
    if (options.entropy) result->entropy = Tensor::Empty({n, groups}, lse.dtype(), q.device());
    ops::SelectBlocks(
        {.q = q.Ref(),
         .k_cmp = k_cmp.Ref(),
         .lse = lse.Ref(),
         .ranges = grid.cmp_ranges.Ref(),
         .positions = grid.positions.Ref(),
         .cu_queries = grid.cu_queries.Ref(),
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

Tensor GatedSum(const Tensor& gate, const Tensor& cmp, const Tensor& slc, const Tensor& win,
                Stream stream) {
  Tensor o = Tensor::EmptyLike(slc);
  ops::GateCombineFwd({.gate = gate.Ref(),
                       .o_cmp = cmp.Ref(),
                       .o_slc = slc.Ref(),
                       .o_win = win.Ref(),
                       .o = o.MutableRef()},
                      stream);
  return o;
}

// A branch's tensors as the backward pass keeps them.
struct SavedBranch {
  SavedTensor k, v, o, lse;
};
SavedBranch Save(const Variable& k, const Variable& v, const Output& out) {
  return {SavedTensor(k.value()), SavedTensor(v.value()), SavedTensor(out.o), SavedTensor(out.lse)};
}

struct KeyGradients {
  Tensor dk, dv;
};
KeyGradients EmptyGradients(const SavedBranch& branch) {
  return {Tensor::EmptyLike(branch.k.get()), Tensor::EmptyLike(branch.v.get())};
}

// Everything that the backward pass needs, in the order cmp, slc, win.
struct Backward {
  std::shared_ptr<const NsaGrid> grid;
  int64_t select_block;
  double scale;
  Stream stream;
  SavedTensor q, gate, blocks;
  SavedBranch cmp, slc, win;

  void operator()(GradContext& g) const {
    const Tensor& weights = gate.get();
    const int64_t n = weights.dim(0), heads = weights.dim(1);
    Tensor dgate = Tensor::EmptyLike(weights),
           delta = Tensor::Empty({3, n, heads}, weights.dtype(), weights.device()),
           lse = Tensor::EmptyLike(delta), dq = Tensor::EmptyLike(q.get());
    ops::GateCombineBwd({.gate = weights.Ref(),
                         .o_cmp = cmp.o.get().Ref(),
                         .o_slc = slc.o.get().Ref(),
                         .o_win = win.o.get().Ref(),
                         .lse_cmp = cmp.lse.get().Ref(),
                         .lse_slc = slc.lse.get().Ref(),
                         .lse_win = win.lse.get().Ref(),
                         .d_o = g.dy().Ref(),
                         .dgate = dgate.MutableRef(),
                         .delta = delta.MutableRef(),
                         .weighted_lse = lse.MutableRef()},
                        stream);
    const auto row = [=](const Tensor& x, int64_t c) { return x.View(c * n * heads, {n, heads}); };
    KeyGradients of_win = EmptyGradients(win), of_cmp = EmptyGradients(cmp),
                 of_slc = EmptyGradients(slc);
    // Keys' gradients beside dq, to which one branch after the other adds.
    SideStream side(stream);
    const auto over_ranges = [&](const SavedBranch& branch, const Tensor& ranges,
                                 const Tensor& cu_keys, int64_t c, bool add, KeyGradients& out) {
      ops::AttentionBwd({.q = q.get().Ref(),
                         .k = branch.k.get().Ref(),
                         .v = branch.v.get().Ref(),
                         .ranges = ranges.Ref(),
                         .cu_queries = grid->cu_queries.Ref(),
                         .cu_keys = cu_keys.Ref(),
                         .o = branch.o.get().Ref(),
                         .lse = row(lse, c).Ref(),
                         .d_o = g.dy().Ref(),
                         .dq = dq.MutableRef(),
                         .dk = out.dk.MutableRef(),
                         .dv = out.dv.MutableRef(),
                         .delta = row(delta, c).Ref(),
                         .scale = scale,
                         .add_dq = add,
                         .key_stream = side.stream()},
                        stream);
    };
    over_ranges(win, grid->win_ranges, grid->cu_seqlens, 2, /*add=*/false, of_win);
    over_ranges(cmp, grid->cmp_ranges, grid->cu_cmp, 0, /*add=*/true, of_cmp);
    ops::SelectedAttentionBwd({.q = q.get().Ref(),
                               .k = slc.k.get().Ref(),
                               .v = slc.v.get().Ref(),
                               .blocks = blocks.get().Ref(),
                               .positions = grid->positions.Ref(),
                               .cu_queries = grid->cu_queries.Ref(),
                               .cu_keys = grid->cu_seqlens.Ref(),
                               .o = slc.o.get().Ref(),
                               .lse = row(lse, 1).Ref(),
                               .d_o = g.dy().Ref(),
                               .dq = dq.MutableRef(),
                               .dk = of_slc.dk.MutableRef(),
                               .dv = of_slc.dv.MutableRef(),
                               .delta = row(delta, 1).Ref(),
                               .scale = scale,
                               .select_block = select_block,
                               .add_dq = true,
                               .key_stream = side.stream()},
                              stream);
    side.Join();
    g.Set(0, std::move(dq));
    g.Set(1, std::move(of_cmp.dk));
    g.Set(2, std::move(of_cmp.dv));
    g.Set(3, std::move(of_slc.dk));
    g.Set(4, std::move(of_slc.dv));
    g.Set(5, std::move(of_win.dk));
    g.Set(6, std::move(of_win.dv));
    g.Set(7, std::move(dgate));
  }
};

}  // namespace

NsaBranches AttendBranches(Tape& tape, const NsaInputs& in,
                           const std::shared_ptr<const NsaGrid>& grid, const NsaConfig& config,
                           const NsaOptions& options) {
  const Stream stream = tape.stream();
  const Tensor& q = in.q.value();
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.dim(2)));
  NsaBranches result;
  std::optional<SideStream> side;
  const std::vector<Tensor> ranged = tape.Costly([&]() -> std::vector<Tensor> {
    Output cmp = EmptyOutput(q, in.v_cmp.value()), win = EmptyOutput(q, in.v_win.value());
    side.emplace(stream);
    AttendRanges(q, in.k_cmp.value(), in.v_cmp.value(), grid->cmp_ranges, grid->cu_queries,
                 grid->cu_cmp, scale, cmp, stream);
    AttendRanges(q, in.k_win.value(), in.v_win.value(), grid->win_ranges, grid->cu_queries,
                 grid->cu_seqlens, scale, win, side->stream());
    return {cmp.o, cmp.lse, win.o, win.lse};
  });
  const Output cmp{ranged[0], ranged[1]}, win{ranged[2], ranged[3]};
  ChooseBlocks(tape, q, in.k_cmp.value(), cmp.lse, *grid, config, options, scale, &result);
  if (side) side->Join();
  Tensor o;
  const std::vector<Tensor> selected = tape.Costly([&]() -> std::vector<Tensor> {
    Output slc = EmptyOutput(q, in.v_slc.value());
    o = Tensor::EmptyLike(slc.o);
    ops::SelectedAttentionFwd({.q = q.Ref(),
                               .k = in.k_slc.value().Ref(),
                               .v = in.v_slc.value().Ref(),
                               .blocks = result.blocks.Ref(),
                               .positions = grid->positions.Ref(),
                               .cu_queries = grid->cu_queries.Ref(),
                               .cu_keys = grid->cu_seqlens.Ref(),
                               .o = slc.o.MutableRef(),
                               .lse = slc.lse.MutableRef(),
                               .gate = in.gate.value().Ref(),
                               .o_cmp = cmp.o.Ref(),
                               .o_win = win.o.Ref(),
                               .o_sum = o.MutableRef(),
                               .scale = scale,
                               .select_block = config.select_block},
                              stream);
    return {slc.o, slc.lse};
  });
  const Output slc{selected[0], selected[1]};
  if (!o.defined()) o = GatedSum(in.gate.value(), cmp.o, slc.o, win.o, stream);
  result.o_cmp = cmp.o;
  result.o_slc = slc.o;
  result.o_win = win.o;
  result.o = tape.Record(
      "nsa_branches", {in.q, in.k_cmp, in.v_cmp, in.k_slc, in.v_slc, in.k_win, in.v_win, in.gate},
      {}, o,
      Backward{.grid = grid,
               .select_block = config.select_block,
               .scale = scale,
               .stream = stream,
               .q = SavedTensor(q),
               .gate = SavedTensor(in.gate.value()),
               .blocks = SavedTensor(result.blocks),
               .cmp = Save(in.k_cmp, in.v_cmp, cmp),
               .slc = Save(in.k_slc, in.v_slc, slc),
               .win = Save(in.k_win, in.v_win, win)});
  return result;
}

}  // namespace lacuna
