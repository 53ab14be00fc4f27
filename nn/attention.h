// What a transformer block expects of its attention and feed-forward modules. nn never names nsa or
// moe: a block receives them.
#pragma once

#include <memory>
#include <vector>

#include "nn/forward_context.h"
#include "nn/module.h"

namespace lacuna {

// Decode state of one layer for one sequence.
class AttentionCache {
 public:
  virtual ~AttentionCache() = default;
  virtual int64_t length() const = 0;  // tokens it holds
};

class Attention : public Module {
 public:
  // residual + attention(x).   x, residual: [N, C], normalised hidden states of ctx.num_rows()
  // tokens and what they were before -> [N, C]. An undefined residual adds nothing. Without
  // ctx.output_is_read the result is Tensor::Meta.
  virtual Variable Forward(ForwardContext& ctx, const Variable& x, const Variable& residual) = 0;

  virtual std::unique_ptr<AttentionCache> NewCache() const = 0;
  // Appends tokens to caches and attends: document i of `tokens` (rows of x) continues the sequence
  // of caches[i]. A prompt is a long document on an empty cache, a decode step a document of one
  // token. x: [N, C] -> [N, C]. Keeps no gradients.
  virtual Tensor Extend(const Tensor& x, const PackedSequences& tokens,
                        const std::vector<AttentionCache*>& caches, Stream stream) = 0;
};

class FeedForward : public Module {
 public:
  // residual + f(x).   x, residual: [N, C], normalised hidden states and what they were before ->
  // [N, C]. An undefined residual adds nothing. Without ctx.output_is_read the result is Tensor::Meta.
  virtual Variable Forward(ForwardContext& ctx, const Variable& x, const Variable& residual) = 0;
};

}  // namespace lacuna
