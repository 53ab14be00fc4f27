#include <utility>

#include "moe/dispatcher.h"
#include "moe/permute.h"

namespace lacuna {
namespace {

class LocalExchange : public Exchange {
 public:
  LocalExchange(Tape& tape, const Variable& x, const Tensor& ids, const Variable& weights,
                int64_t num_experts) {
    RoutedRows rows{.offsets = Tensor::Empty({num_experts + 1}, DType::kI64, ids.device()),
                    .position = Tensor::EmptyLike(ids)};
    ops::SortByExpert({.ids = ids.Ref(),
                       .offsets = rows.offsets.MutableRef(),
                       .position = rows.position.MutableRef()},
                      tape.stream());
    there_ = {x, weights, std::move(rows)};
  }

  DispatchedTokens FinishDispatch() override { return std::move(there_); }
  void BeginCombine(const Variable& y) override { back_ = y; }
  Variable FinishCombine() override { return std::move(back_); }

 private:
  DispatchedTokens there_;
  Variable back_;
};

}  // namespace

std::unique_ptr<Exchange> LocalDispatcher::BeginDispatch(Tape& tape, const Variable& x,
                                                         const Tensor& ids,
                                                         const Variable& weights) {
  return std::make_unique<LocalExchange>(tape, x, ids, weights, num_experts_);
}

}  // namespace lacuna
