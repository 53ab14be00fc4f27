#include "nn/gqa_cache.h"

#include "core/ops/cache_rows.h"
#include "core/ops/decode_attention.h"

namespace lacuna {

void DecodeGqa(const Tensor& q, const Tensor& k, const Tensor& v, const DecodeTokens& tokens,
               const Tensor& addresses, const RopeTable* rope, double scale, Stream stream,
               Tensor* o) {
  const CacheRows keys{.x = k.Ref(), .column = 0, .rotate = rope != nullptr},
      values{.x = v.Ref(), .column = 1};
  Tensor rotated = q;
  if (rope != nullptr) {
    rotated = Tensor::EmptyLike(q);
    ops::AppendRows(tokens.table.Ref(), addresses.Ref(), rope->cos().Ref(), rope->sin().Ref(),
                    {keys, values, {.x = q.Ref(), .y = rotated.MutableRef(), .rotate = true}},
                    stream);
  } else {
    ops::AppendRows(tokens.table.Ref(), addresses.Ref(), {}, {}, {keys, values}, stream);
  }
  ops::DecodeAttention({.q = rotated.Ref(),
                        .tokens = tokens.table.Ref(),
                        .addresses = addresses.Ref(),
                        .o = o->MutableRef(),
                        .scale = scale,
                        .groups = k.dim(1),
                        .max_length = tokens.max_length},
                       stream);
}

}  // namespace lacuna
