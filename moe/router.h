// The router of a layer: which K of E experts a token goes to, with what weights, and what keeps
// the experts evenly used.
//
// Auxiliary losses have no output: backward adds their gradient to that of the logits and reports
// their value.
//   balance: aux_loss_coef * E * sum_e f_e P_e,   f_e = share of the choices that went to e (no
//     gradient),
//            P_e = mean over rows of p_ne, p = softmax of the logits, or the sigmoid scores divided
//              by their sum;
//            aux_loss_coef when the experts are used evenly.
//     micro_batch    f and P of the micro-batch
//     sequence       f and P of each sample (ForwardContext::rows_per_sample), mean over the
//       samples
//     global_batch   P of the micro-batch, f of all ranks' micro-batches of the step whose backward
//                    has run, this one included:
//                    the last micro-batch sees the whole batch. One CountReducer call a backward
//                      pass.
//   z: z_loss_coef * mean over rows of lse^2.
// Both are means over micro-batches: their gradients are scaled by
// ForwardContext::micro_batch_share. f of a micro-batch and of a sample is over the rows of all ranks
// that share them (ForwardContext::context), and so is the reported load.
//
// A micro-batch counts when its backward runs: evaluation never counts, and recompute can neither
// count nor reduce twice.
// ForwardContext::metrics must live until then.
#pragma once

#include <functional>
#include <string>

#include "moe/count_reducer.h"
#include "moe/moe_config.h"
#include "nn/forward_context.h"
#include "nn/module.h"

namespace lacuna {

struct Routing {
  Variable weights;  // [N, K] in the accumulation type
  Tensor ids;        // [N, K] i32, largest score first; replayed by a recomputed segment
};

// Parameter: weight [E, C]. Buffer of the sigmoid router: e_score_correction_bias [E], starts at 0.
class Router : public Module {
 public:
  // device: of the bias and the counts.
  Router(int64_t width, const MoeConfig& config, double init_std, DType dtype,
         Device device = kCpu);

  // x: [N, C]. Reports under `report_as`: .tokens_per_expert (vector of counts), .max_load (largest
  // count over the mean count), .unused_experts (share of them), .load_entropy (of the counts, 1 =
  // even), .router_z (mean lse^2), and in backward .aux_loss. (From a device they come with
  // Metrics::Collect.)
  Routing Forward(ForwardContext& ctx, const Variable& x, const std::string& report_as);

  // Choices of each expert [E] f64, on the device, in the micro-batches of the step; the trainer
  // sums them over the ranks, then calls UpdateBias and ResetCounts.
  Tensor& step_counts() { return step_counts_; }
  // bias_e += bias_update_rate * sign(mean count - count_e) (arXiv 2408.15664); the softmax router
  // has no bias.
  void UpdateBias();
  void ResetCounts() { step_counts_.Zero(); }
  // For the global_batch scope.
  void set_count_reducer(CountReducer reducer) { count_reducer_ = std::move(reducer); }
  // Sees each choice once, not again where a segment is recomputed: scores [N, E], bias [E] or
  // undefined, ids [N, K].
  using Observer = std::function<void(const Tensor& scores, const Tensor& bias, const Tensor& ids)>;
  void set_observer(Observer observer) { observer_ = std::move(observer); }

 private:
  struct Saved;
  void Backward(const Saved& saved, GradContext& g);
  // f [S, E] of the configured scope; undefined without a balance loss.
  Tensor BalanceLoad(const Saved& saved);

  MoeConfig config_;
  DType accumulation_;
  Parameter* weight_;
  Tensor bias_;
  Tensor step_counts_;
  CountReducer count_reducer_;
  Observer observer_;
};

}  // namespace lacuna
