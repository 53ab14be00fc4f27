#include "moe/moe_layer.h"

#include <utility>

#include "autograd/functions/activation.h"
#include "distributed/communicator.h"

namespace lacuna {
namespace {

ExpertRank PlaceIn(const Communicator* group) {
  if (group == nullptr) return {};
  return {group->rank(), group->size()};
}

std::unique_ptr<Dispatcher> MakeDispatcher(int64_t num_experts, Communicator* group,
                                           int64_t chunks) {
  if (group == nullptr) return std::make_unique<LocalDispatcher>(num_experts);
  return std::make_unique<AllToAllDispatcher>(num_experts, *group, chunks);
}

}  // namespace

MoeLayer::MoeLayer(int64_t width, const MoeConfig& config, double init_std, double down_std,
                   DType dtype, Device device, Communicator* expert_group, int64_t expert_chunks)
    : router_(width, config, init_std, dtype, device),
      experts_(config.num_experts, width, config.expert_width, init_std, down_std,
               PlaceIn(expert_group)),
      dispatcher_(MakeDispatcher(config.num_experts, expert_group, expert_chunks)) {
  AddModule("gate", &router_);
  if (config.num_shared > 0) {
    shared_ = std::make_unique<SwiGluFfn>(width, config.num_shared * config.expert_width, init_std,
                                          down_std);
    AddModule("shared_experts", shared_.get());
  }
  AddModule("experts", &experts_);
}

Variable MoeLayer::Forward(ForwardContext& ctx, const Variable& x, const Variable& residual) {
  const Routing routing = router_.Forward(ctx, x, name());
  const std::unique_ptr<Exchange> exchange =
      dispatcher_->BeginDispatch(ctx.tape, x, routing.ids, routing.weights);
  // The shared experts need no other rank: their halves fill the time the rows are on their ways.
  Variable hidden = shared_ ? shared_->Hidden(ctx, x) : Variable();
  exchange->BeginCombine(
      experts_.Forward(ctx.tape, exchange->FinishDispatch(), ctx.output_is_read));
  const Variable base = shared_ ? shared_->Output(ctx, std::move(hidden), residual) : residual;
  const Variable routed = exchange->FinishCombine();
  return base.defined() ? Add(ctx.tape, base, routed) : routed;
}

}  // namespace lacuna
