#include "core/ops/decode_attention.h"

#include <vector>

#include "core/ops/attention.h"
#include "core/ops/cpu/decode_refs.h"
#include "core/parallel.h"

namespace lacuna::cpu {

void DecodeAttention(const DecodeAttentionArgs& args, Stream stream) {
  const int64_t dk = args.q.dim(2), dv = args.o.dim(2);
  const DecodeTables tables(args.tokens, args.addresses);
  const auto attend = [&](int64_t b) {
    const int64_t length = tables.position(b) + 1;
    std::vector<double> lse(static_cast<size_t>(args.q.dim(1)));
    OneQuery query(length);
    AttentionFwd({.q = tables.TokenRow(args.q, b),
                  .k = tables.Cache(b, args.k_column, {length, args.groups, dk}, args.q.dtype),
                  .v = tables.Cache(b, args.k_column + 1, {length, args.groups, dv}, args.q.dtype),
                  .ranges = query.ranges(),
                  .cu_queries = query.cu_queries(),
                  .cu_keys = query.ranges_flat(),
                  .o = tables.TokenRow(args.o, b),
                  .lse = HostRef(lse.data(), {1, args.q.dim(1)}, AccumulationType(args.q.dtype)),
                  .scale = args.scale},
                 stream);
  };
  ParallelFor(tables.size(), args.max_length * args.q.dim(1) * (dk + dv), attend);
}

}  // namespace lacuna::cpu
