#include "nn/transformer_block.h"

#include <utility>

#include "autograd/functions/activation.h"
#include "autograd/functions/norm.h"
#include "autograd/recompute.h"
#include "core/profile_range.h"

namespace lacuna {
namespace {

// The context of a segment's end: everything but the tape stays, and whoever recomputes wants
// gradients alone. A segment within another one is on ctx's own tape, and that one's end decides.
ForwardContext OnTape(const ForwardContext& ctx, Tape& tape) {
  return {.tape = tape,
          .sequences = ctx.sequences,
          .metrics = ctx.metrics,
          .rows_per_sample = ctx.rows_per_sample,
          .micro_batch_share = ctx.micro_batch_share,
          .micro_batch = ctx.micro_batch,
          .deterministic = ctx.deterministic,
          .context = ctx.context,
          .output_is_read = &tape == &ctx.tape ? ctx.output_is_read : !tape.recomputing()};
}

}  // namespace

TransformerBlock::TransformerBlock(int64_t width, double norm_eps,
                                   std::unique_ptr<Attention> attention,
                                   std::unique_ptr<FeedForward> feed_forward,
                                   RecomputePolicy recompute)
    : norm_eps_(norm_eps),
      recompute_(recompute),
      attention_(std::move(attention)),
      feed_forward_(std::move(feed_forward)) {
  attention_norm_ =
      &AddParameter("input_layernorm.weight", {width}, Init::Ones(), /*weight_decay=*/false);
  AddModule("self_attn", attention_.get());
  feed_forward_norm_ = &AddParameter("post_attention_layernorm.weight", {width}, Init::Ones(),
                                     /*weight_decay=*/false);
  AddModule("mlp", feed_forward_.get());
}

Variable TransformerBlock::Forward(ForwardContext& ctx, const Variable& x) {
  if (!recompute_.block) return Run(ctx, x);
  // The segment outlives this call; what it reads of the context (sequences, metrics) lives until
  // the step's backward is done.
  const ForwardContext kept = ctx;
  return Recompute(
      ctx.tape, "block", {x},
      [this, kept](Tape& tape, const std::vector<Variable>& in) {
        ForwardContext inner = OnTape(kept, tape);
        return std::vector<Variable>{Run(inner, in[0])};
      },
      recompute_.keeps_attention())[0];
}

template <class M>
Variable TransformerBlock::Branch(ForwardContext& ctx, const char* name, const Variable& x,
                                  Parameter& norm, M& module, bool recompute) {
  // Inside a whole-block segment that segment alone decides.
  if (recompute_.block || !recompute)
    return module.Forward(ctx, RmsNorm(ctx.tape, x, norm, norm_eps_), x);
  const ForwardContext kept = ctx;
  return Recompute(
      ctx.tape, name, {x},
      [this, kept, &norm, &module](Tape& tape, const std::vector<Variable>& in) {
        ForwardContext inner = OnTape(kept, tape);
        const Variable normed = RmsNorm(tape, in[0], norm, norm_eps_);
        return std::vector<Variable>{module.Forward(inner, normed, in[0])};
      },
      recompute_.keeps_attention())[0];
}

Variable TransformerBlock::Run(ForwardContext& ctx, const Variable& x) {
  ForwardContext before_the_end = ctx;
  before_the_end.output_is_read = true;
  return FeedForwardPart(ctx, AttentionPart(before_the_end, x));
}

Variable TransformerBlock::AttentionPart(ForwardContext& ctx, const Variable& x) {
  const ModuleRange range(attention_range_.c_str());
  return Branch(ctx, "attention", x, *attention_norm_, *attention_, recompute_.attention);
}

Variable TransformerBlock::FeedForwardPart(ForwardContext& ctx, const Variable& x) {
  const ModuleRange range(feed_forward_range_.c_str());
  return Branch(ctx, "feed_forward", x, *feed_forward_norm_, *feed_forward_,
                recompute_.feed_forward);
}

void TransformerBlock::set_index(int64_t index) {
  attention_range_ = "layer " + std::to_string(index) + " attention";
  feed_forward_range_ = "layer " + std::to_string(index) + " feed-forward";
}

Tensor TransformerBlock::Extend(const Tensor& x, const PackedSequences& tokens,
                                const std::vector<AttentionCache*>& caches, Stream stream) {
  Tape tape(Tape::Mode::kInference, stream);
  ForwardContext ctx{.tape = tape, .sequences = tokens};
  const Variable normed = RmsNorm(tape, Variable(x), *attention_norm_, norm_eps_);
  const Variable h =
      Add(tape, Variable(x), Variable(attention_->Extend(normed.value(), tokens, caches, stream)));
  return feed_forward_->Forward(ctx, RmsNorm(tape, h, *feed_forward_norm_, norm_eps_), h).value();
}

}  // namespace lacuna
