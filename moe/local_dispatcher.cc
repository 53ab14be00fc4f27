#include <utility>

#include "moe/dispatcher.h"
#include "moe/functions.h"
#include "moe/permute.h"

namespace lacuna {
namespace {

class LocalExchange : public Exchange {
 public:
  LocalExchange(Tape& tape, const Variable& x, const Tensor& ids, int64_t num_experts)
      : tape_(tape) {
    position_ = Tensor::EmptyLike(ids);
    there_.offsets = Tensor::Empty({num_experts + 1}, DType::kI64, ids.device());
    ops::SortByExpert({.ids = ids.Ref(),
                       .offsets = there_.offsets.MutableRef(),
                       .position = position_.MutableRef()},
                      tape.stream());
    there_.rows = PermuteRows(tape, x, position_);
  }

  // Handed over and not kept: without a recording tape the rows go when the experts have read them.
  ExpertRows FinishDispatch() override { return std::move(there_); }
  void BeginCombine(const Variable& rows) override { back_ = rows; }
  Variable FinishCombine(const Variable& weights) override {
    return UnpermuteRows(tape_, back_, weights, position_);
  }

 private:
  Tape& tape_;
  Tensor position_;
  ExpertRows there_;
  Variable back_;
};

}  // namespace

std::unique_ptr<Exchange> LocalDispatcher::BeginDispatch(Tape& tape, const Variable& x,
                                                         const Tensor& ids) {
  return std::make_unique<LocalExchange>(tape, x, ids, num_experts_);
}

}  // namespace lacuna
