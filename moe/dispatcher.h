// Brings rows to their experts and back. Each way is a Begin and a Finish, so that a dispatcher
// between ranks can move rows while others compute (the shared experts on the way there, deferred
// weight gradients on the way back).
#pragma once

#include <memory>

#include "autograd/tape.h"
#include "moe/functions.h"

namespace lacuna {

// Tokens that this rank's experts work on, and their choices among these experts.
struct DispatchedTokens {
  Variable x;        // [N, C]
  Variable weights;  // [N, K] in the accumulation type
  RoutedRows rows;
};

// One forward's way there and back; its calls come in this order, each once.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual DispatchedTokens FinishDispatch() = 0;
  // y: what the experts made of the tokens, the weighted sum of their choices, [N, C].
  virtual void BeginCombine(const Variable& y) = 0;
  // The sum over the ranks whose experts a token went to: [N, C] of the tokens that were handed in.
  virtual Variable FinishCombine() = 0;
};

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;
  // x: [N, C], ids: [N, K] i32, experts of the whole layer, weights: [N, K]. Row counts that ranks
  // exchange are taken through Tape::Decide.
  virtual std::unique_ptr<Exchange> BeginDispatch(Tape& tape, const Variable& x, const Tensor& ids,
                                                  const Variable& weights) = 0;
};

// All experts on this rank.
class LocalDispatcher : public Dispatcher {
 public:
  explicit LocalDispatcher(int64_t num_experts) : num_experts_(num_experts) {}
  std::unique_ptr<Exchange> BeginDispatch(Tape& tape, const Variable& x, const Tensor& ids,
                                          const Variable& weights) override;

 private:
  int64_t num_experts_;
};

}  // namespace lacuna
