// Rows of NSA's attention as a whole, beside those of full attention: three branches, choice of the
// blocks and gated sum, on a tape, without projections, phi and rotation.
#include <cmath>

#include "core/stream.h"
#include "nsa/nsa_operator.h"
#include "recipes/benchmark/attention_set.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/benchmark/op_benchmark.h"
#include "recipes/plan/model_size.h"

namespace lacuna {
namespace {

struct CoreSet {
  AttentionSet cmp;  // its q is all branches'
  Tensor k_slc, v_slc, k_win, v_win, gate, d_o;
  Tensor given;                // lists, where they are not chosen
  std::shared_ptr<Tape> tape;  // of the last forward
  std::optional<Variable> o;
};

CoreSet MakeCore(const BenchSizes& sizes, Device device, uint64_t seed, bool backward) {
  const ModelConfig& m = sizes.model;
  const auto rows = [&](int64_t heads, int64_t width, uint64_t i) {
    return NormalTensor({sizes.tokens, heads, width}, DType::kBF16, device, 1000 + 8 * seed + i);
  };
  CoreSet s{.cmp = MakeCompressed(sizes, device, seed),
            .k_slc = rows(m.num_groups, m.head_dim_qk, 0),
            .v_slc = rows(m.num_groups, m.head_dim_v, 1),
            .k_win = rows(m.num_groups, m.head_dim_qk, 2),
            .v_win = rows(m.num_groups, m.head_dim_v, 3),
            .gate = FilledTensor({sizes.tokens, m.num_heads, 3}, DType::kF32, device, 0.5),
            .d_o = backward ? rows(m.num_heads, m.head_dim_v, 4) : Tensor(),
            .given = {},
            .tape = nullptr,
            .o = std::nullopt};
  // The tape makes its own, and at 1M tokens these are most of a card.
  s.cmp.o = s.cmp.d_o = s.cmp.dq = s.cmp.dk = s.cmp.dv = {};
  if (const auto lists = GivenLists(sizes))
    s.given =
        Tensor::FromVector(lists->blocks, {lists->tokens, lists->groups, lists->places}).To(device);
  return s;
}

void RunForward(CoreSet& s, const NsaConfig& nsa, Stream stream) {
  s.o.reset();
  s.tape = std::make_shared<Tape>(Tape::Mode::kRecord, stream);
  // Given lists do not save the choice its time.
  if (s.given.defined()) Select(s.cmp, nsa, stream);
  const NsaInputs in{.q = s.tape->Leaf(s.cmp.q),
                     .k_cmp = s.tape->Leaf(s.cmp.k),
                     .v_cmp = s.tape->Leaf(s.cmp.v),
                     .k_slc = s.tape->Leaf(s.k_slc),
                     .v_slc = s.tape->Leaf(s.v_slc),
                     .k_win = s.tape->Leaf(s.k_win),
                     .v_win = s.tape->Leaf(s.v_win),
                     .gate = s.tape->Leaf(s.gate)};
  s.o = AttendBranches(*s.tape, in, s.cmp.grid, nsa, {.blocks = s.given}).o;
}

void RunBackward(CoreSet& s) {
  s.tape->Backward({{*s.o, s.d_o}});
  s.o.reset();
  s.tape = nullptr;
}

}  // namespace

void AddNsaCoreRows(const BenchSizes& sizes, Device device, BenchRows& rows) {
  const Stream stream = ComputeStream(device);
  const ModelConfig& m = sizes.model;
  const NsaConfig nsa = sizes.nsa;
  AttentionPairs pairs = CountPairs(nsa, sizes.tokens);
  if (const auto lists = GivenLists(sizes))
    pairs.selected = std::llround(SelectedPairs(*lists, nsa.select_block));
  const auto d = [](int64_t n) { return static_cast<double>(n); };
  const double of_heads = 2 * d(m.num_heads) * d(pairs.nsa()),
               bytes = 2 * d(sizes.tokens) * d(m.num_heads) * d(m.head_dim_qk + m.head_dim_v);
  const auto make_for = [=](bool backward) {
    return [=](uint64_t seed) { return MakeCore(sizes, device, seed, backward); };
  };
  const auto forward = [=](CoreSet& s) { RunForward(s, nsa, stream); };
  const auto lists = [=] { return MeasureLists(sizes, device); };
  rows.Flops("nsa_attention_core_fwd", sizes.tokens, of_heads * d(m.head_dim_qk + m.head_dim_v),
             "2H pairs (Dk + Dv), pairs of three branches", bytes, make_for(false), forward);
  rows.rows.back().lists = lists;
  rows.Flops(
      "nsa_attention_core_bwd", sizes.tokens, of_heads * d(3 * m.head_dim_qk + 2 * m.head_dim_v),
      "2H pairs (3Dk + 2Dv), pairs of three branches", bytes, make_for(true), RunBackward, forward);
  rows.rows.back().lists = lists;
}

}  // namespace lacuna
