// Sequence by sequence, with the operators of the forward pass on one query.
#include "nsa/decode_branches.h"

#include <algorithm>

#include "core/ops/attention.h"
#include "core/ops/cpu/decode_refs.h"
#include "core/parallel.h"
#include "core/tensor.h"
#include "nsa/gate_combine.h"
#include "nsa/nsa_grid.h"
#include "nsa/select_blocks.h"
#include "nsa/selected_attention.h"

namespace lacuna::cpu {
namespace {

void DecodeOne(const DecodeBranchesArgs& args, const DecodeTables& tables, int64_t b,
               Stream stream) {
  const int64_t heads = args.q.dim(1), dk = args.q.dim(2), dv = args.o.dim(2), g = args.groups,
                length = tables.position(b) + 1;
  const DType dtype = args.q.dtype;
  const TensorRef q = tables.TokenRow(args.q, b);
  Tensor o[3], lse[3];
  for (int c = 0; c < 3; ++c) {
    o[c] = Tensor::Empty({1, heads, dv}, dtype);
    lse[c] = Tensor::Empty({1, heads}, AccumulationType(dtype));
  }
  const auto key = [&](int column, int64_t rows) {
    return tables.Cache(b, column, {rows, g, dk}, dtype);
  };
  const auto value = [&](int column, int64_t rows) {
    return tables.Cache(b, column, {rows, g, dv}, dtype);
  };
  const auto attend = [&](int column, int64_t rows, int c) {
    OneQuery query(rows);
    AttentionFwd({.q = q,
                  .k = key(column, rows),
                  .v = value(column + 1, rows),
                  .ranges = query.ranges(),
                  .cu_queries = query.cu_queries(),
                  .cu_keys = query.ranges_flat(),
                  .o = o[c].MutableRef(),
                  .lse = lse[c].MutableRef(),
                  .scale = args.scale},
                 stream);
  };
  const int64_t compressed = NumCompressed(length, args.block, args.stride);
  attend(kKeyCmp, compressed, 0);
  attend(kKeyWin, std::min(args.window, length), 2);
  TensorRef blocks = args.blocks;
  blocks.shape[0] = 1;
  blocks.data = blocks.As<int32_t>() + b * g * blocks.dim(2);
  const TensorRef position = HostRef(tables.position_address(b), {1}, DType::kI32);
  OneQuery of_compressed(compressed), of_tokens(length);
  SelectBlocks({.q = q,
                .k_cmp = key(kKeyCmp, compressed),
                .lse = lse[0].Ref(),
                .ranges = of_compressed.ranges(),
                .positions = position,
                .cu_queries = of_compressed.cu_queries(),
                .cu_keys = of_compressed.ranges_flat(),
                .blocks = blocks,
                .scores = {},
                .entropy = {},
                .scale = args.scale,
                .block = args.block,
                .stride = args.stride,
                .select_block = args.select_block,
                .num_init = args.num_init,
                .num_local = args.num_local},
               stream);
  SelectedAttentionFwd({.q = q,
                        .k = key(kKeySlc, length),
                        .v = value(kValueSlc, length),
                        .blocks = blocks,
                        .positions = position,
                        .cu_queries = of_tokens.cu_queries(),
                        .cu_keys = of_tokens.ranges_flat(),
                        .o = o[1].MutableRef(),
                        .lse = lse[1].MutableRef(),
                        .scale = args.scale,
                        .select_block = args.select_block},
                       stream);
  GateCombineFwd({.gate = tables.TokenRow(args.gate, b),
                  .o_cmp = o[0].Ref(),
                  .o_slc = o[1].Ref(),
                  .o_win = o[2].Ref(),
                  .o = tables.TokenRow(args.o, b)},
                 stream);
}

}  // namespace

void DecodeBranches(const DecodeBranchesArgs& args, Stream stream) {
  const DecodeTables tables(args.tokens, args.addresses);
  const int64_t read = args.blocks.dim(2) * args.select_block + args.window;
  ParallelFor(tables.size(), read * args.q.dim(1) * (args.q.dim(2) + args.o.dim(2)),
              [&](int64_t b) { DecodeOne(args, tables, b, stream); });
}

}  // namespace lacuna::cpu
