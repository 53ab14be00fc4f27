#include "autograd/functions/attention.h"

#include <algorithm>
#include <string>

namespace lacuna {

namespace {

AttentionRanges MakeCausalRanges(const PackedSequences& sequences, int64_t window,
                                 const RowSubset* queries) {
  const auto& cu = sequences.host_cu_seqlens();
  std::vector<int32_t> ranges(static_cast<size_t>(2 * sequences.num_rows()));
  for (size_t d = 0; d + 1 < cu.size(); ++d) {
    for (int32_t n = cu[d]; n < cu[d + 1]; ++n) {
      ranges[static_cast<size_t>(2 * n)] =
          window == 0 ? cu[d] : static_cast<int32_t>(std::max<int64_t>(cu[d], n - window + 1));
      ranges[static_cast<size_t>(2 * n + 1)] = n + 1;
    }
  }
  if (queries != nullptr)
    return {queries->Pick(ranges, 2), queries->cu_seqlens(), sequences.cu_seqlens()};
  return {Tensor::FromVector(ranges, {sequences.num_rows(), 2}).To(sequences.device()),
          sequences.cu_seqlens(),
          sequences.cu_seqlens(),
          {.window = window,
           .max_length = sequences.max_length(),
           .documents = sequences.length_classes()}};
}

}  // namespace

AttentionRanges CausalRanges(const PackedSequences& sequences, int64_t window,
                             const RowSubset* queries) {
  std::string key = "causal_ranges." + std::to_string(window);
  if (queries != nullptr) key += "." + queries->name();
  return *sequences.Derived<AttentionRanges>(
      key, [&] { return MakeCausalRanges(sequences, window, queries); });
}

Variable AttentionOverRanges(Tape& tape, const Variable& q, const Variable& k, const Variable& v,
                             const AttentionRanges& ranges, double scale, Tensor* lse_out) {
  const Stream stream = tape.stream();
  const std::vector<Tensor> out = tape.Costly([&]() -> std::vector<Tensor> {
    const Device device = q.value().device();
    Tensor o = Tensor::Empty({q.dim(0), q.dim(1), v.dim(2)}, q.dtype(), device);
    Tensor lse = Tensor::Empty({q.dim(0), q.dim(1)}, AccumulationType(q.dtype()), device);
    ops::AttentionFwd({.q = q.value().Ref(),
                       .k = k.value().Ref(),
                       .v = v.value().Ref(),
                       .ranges = ranges.ranges.Ref(),
                       .cu_queries = ranges.cu_queries.Ref(),
                       .cu_keys = ranges.cu_keys.Ref(),
                       .o = o.MutableRef(),
                       .lse = lse.MutableRef(),
                       .scale = scale,
                       .causal = ranges.causal},
                      stream);
    return {o, lse};
  });
  const Tensor &o = out[0], &lse = out[1];
  if (lse_out != nullptr) *lse_out = lse;
  return tape.Record(
      "attention", {q, k, v}, {}, o,
      [stream, scale, ranges, q = SavedTensor(q.value()), k = SavedTensor(k.value()),
       v = SavedTensor(v.value()), o = SavedTensor(o), lse = SavedTensor(lse)](GradContext& g) {
        Tensor dq = Tensor::EmptyLike(q.get()), dk = Tensor::EmptyLike(k.get()),
               dv = Tensor::EmptyLike(v.get());
        ops::AttentionBwd({.q = q.get().Ref(),
                           .k = k.get().Ref(),
                           .v = v.get().Ref(),
                           .ranges = ranges.ranges.Ref(),
                           .cu_queries = ranges.cu_queries.Ref(),
                           .cu_keys = ranges.cu_keys.Ref(),
                           .o = o.get().Ref(),
                           .lse = lse.get().Ref(),
                           .d_o = g.dy().Ref(),
                           .dq = dq.MutableRef(),
                           .dk = dk.MutableRef(),
                           .dv = dv.MutableRef(),
                           .scale = scale,
                           .causal = ranges.causal,
                           .deterministic = ranges.deterministic},
                          stream);
        g.Set(0, std::move(dq));
        g.Set(1, std::move(dk));
        g.Set(2, std::move(dv));
      });
}

}  // namespace lacuna
