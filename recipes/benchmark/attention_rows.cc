// Rows of attention over ranges and of the attention in nsa/, one document each.
#include <cmath>

#include "core/stream.h"
#include "recipes/benchmark/attention_set.h"
#include "recipes/benchmark/op_benchmark.h"
#include "recipes/plan/model_size.h"

namespace lacuna {
namespace {

double D(int64_t n) {
  return static_cast<double>(n);
}

double SetBytes(const ModelConfig& m, int64_t tokens) {
  return 2 * D(tokens) * D(m.num_heads) * D(m.head_dim_qk + m.head_dim_v);
}

// name_fwd and name_bwd over `pairs` pairs a head.
template <class Make, class Fwd, class Bwd>
void AddBranch(const std::string& name, const BenchSizes& sizes, int64_t pairs,
               const std::string& pairs_text, Make make, Fwd forward, Bwd backward,
               BenchRows& rows) {
  const ModelConfig& m = sizes.model;
  const double of_heads = 2 * D(m.num_heads) * D(pairs), bytes = SetBytes(m, sizes.tokens);
  rows.Flops(name + "_fwd", sizes.tokens, of_heads * D(m.head_dim_qk + m.head_dim_v),
             "2H pairs (Dk + Dv), pairs = " + pairs_text, bytes, make, forward);
  rows.Flops(name + "_bwd", sizes.tokens, of_heads * D(3 * m.head_dim_qk + 2 * m.head_dim_v),
             "2H pairs (3Dk + 2Dv), pairs = " + pairs_text, bytes, make, backward);
}

void AddBranches(const BenchSizes& sizes, Device device, BenchRows& rows) {
  const Stream stream = ComputeStream(device);
  const NsaConfig nsa = sizes.nsa;
  const AttentionPairs pairs = CountPairs(nsa, sizes.tokens);
  const auto compressed = [=](uint64_t seed) { return MakeCompressed(sizes, device, seed); };
  const auto causal = [=](int64_t window) {
    return [=](uint64_t seed) {
      AttentionSet s = MakeAttention(sizes.model, sizes.tokens, sizes.tokens, device, seed);
      s.ranges = CausalRanges(PackedSequences::Single(sizes.tokens).To(device), window);
      Forward(s, stream);
      return s;
    };
  };
  const auto forward = [=](AttentionSet& s) { Forward(s, stream); };
  const auto backward = [=](AttentionSet& s) { Backward(s, stream); };
  AddBranch("attention", sizes, pairs.full, "T (T + 1) / 2", causal(0), forward, backward, rows);
  // Without word of what they are, causal ranges are for Lacuna's own kernels.
  AddBranch(
      "attention_own", sizes, pairs.full, "T (T + 1) / 2",
      [=](uint64_t seed) {
        AttentionSet s = causal(0)(seed);
        s.ranges.causal = {};
        return s;
      },
      forward, backward, rows);
  AddBranch("window_attention", sizes, pairs.window, "sum_t min(t + 1, w)", causal(nsa.window),
            forward, backward, rows);
  AddBranch("compressed_attention", sizes, pairs.cmp, "sum_t visible blocks", compressed, forward,
            backward, rows);
  rows.Flops("select_blocks", sizes.tokens,
             2 * D(sizes.model.num_heads) * D(pairs.cmp) * D(sizes.model.head_dim_qk),
             "2H pairs Dk, pairs = sum_t visible blocks", SetBytes(sizes.model, sizes.tokens),
             compressed, [=](AttentionSet& s) { Select(s, nsa, stream); });
  const size_t first = rows.rows.size();
  const auto lists = GivenLists(sizes);
  AddBranch(
      "selected_attention", sizes,
      lists ? std::llround(SelectedPairs(*lists, nsa.select_block)) : pairs.selected,
      "sum_t tokens of its blocks up to t",
      [=](uint64_t seed) { return MakeSelected(sizes, device, seed); },
      [=](AttentionSet& s) { SelectedForward(s, nsa, stream); },
      [=](AttentionSet& s) { SelectedBackward(s, nsa, stream); }, rows);
  for (size_t i = first; i < rows.rows.size(); ++i)
    rows.rows[i].lists = [=] { return MeasureLists(sizes, device); };
}

}  // namespace

void AddAttentionRows(const BenchSizes& sizes, Device device, BenchRows& rows) {
  std::vector<int64_t> lengths = sizes.lengths;
  if (lengths.empty()) lengths = {sizes.tokens};
  for (const int64_t tokens : lengths) {
    BenchSizes these = sizes;
    these.tokens = tokens;
    AddBranches(these, device, rows);
    AddNsaCoreRows(these, device, rows);
    AddDecodeRows(these, device, rows);
  }
}

}  // namespace lacuna
