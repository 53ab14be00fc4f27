// DeepSeekMoE (arXiv 2401.06066): shared experts for every token plus K of E fine-grained routed
// ones, dropless.
//   y = shared(x) + sum_k w_k expert_{id_k}(x)
#pragma once

#include <memory>

#include "moe/dispatcher.h"
#include "moe/experts.h"
#include "moe/router.h"
#include "nn/attention.h"
#include "nn/swiglu_ffn.h"

namespace lacuna {

// Parameters, E experts of width F:
//   gate.weight [E, C]
//   shared_experts.gate_up_proj.weight [2 F num_shared, C], shared_experts.down_proj.weight [C, F
//     num_shared]   (num_shared > 0)
//   experts.gate_up_proj.weight [E, 2F, C], experts.down_proj.weight [E, C, F]; of a group's rank,
//     its own experts' part (moe/experts.h)
// Buffer of the sigmoid router: gate.e_score_correction_bias [E].
class MoeLayer : public FeedForward {
 public:
  // config must be valid (MoeConfig::Validate). down_std: standard deviation of the output
  // projections' start. dtype: of the model; device: of the router's buffers. expert_group: the
  // ranks over which the experts are spread (moe/dispatcher.h), none where all are here; it must
  // outlive the layer. expert_chunks: in which tokens travel to them.
  MoeLayer(int64_t width, const MoeConfig& config, double init_std, double down_std, DType dtype,
           Device device = kCpu, Communicator* expert_group = nullptr, int64_t expert_chunks = 1);

  // Metrics "<name of this module>.<what>"; moe/router.h lists them.
  Variable Forward(ForwardContext& ctx, const Variable& x, const Variable& residual) override;

  // The bias update of a step, after the optimizer's: sum step_counts over the ranks, UpdateBias,
  // ResetCounts. The counts have to be reset in every step, also where there is no bias: the
  // global_batch loss uses them.
  Tensor& step_counts() { return router_.step_counts(); }  // [E] f64, on the device
  void UpdateBias() { router_.UpdateBias(); }
  void ResetCounts() { router_.ResetCounts(); }

  void set_count_reducer(CountReducer reducer) { router_.set_count_reducer(std::move(reducer)); }
  void set_routing_observer(Router::Observer observer) {
    router_.set_observer(std::move(observer));
  }

 private:
  Router router_;
  std::unique_ptr<SwiGluFfn> shared_;
  Experts experts_;
  std::unique_ptr<Dispatcher> dispatcher_;
};

}  // namespace lacuna
