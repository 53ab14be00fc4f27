// Brings rows to their experts and back. Each way is a Begin and a Finish, so that a dispatcher
// between ranks can move rows while others compute (the shared experts on the way there, deferred
// weight gradients on the way back).
#pragma once

#include <memory>

#include "autograd/tape.h"

namespace lacuna {

// Rows that this rank's experts work on, by expert.
struct ExpertRows {
  Variable rows;  // [R, C]
  // [E + 1] i64 of the local experts; expert e has rows offsets[e] .. offsets[e + 1]
  Tensor offsets;
};

// One forward's way there and back; its calls come in this order, each once.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual ExpertRows FinishDispatch() = 0;
  // rows: what the experts made of ExpertRows::rows, [R, C].
  virtual void BeginCombine(const Variable& rows) = 0;
  // sum_k weights[n, k] * row of choice (n, k), k ascending. weights: [N, K] in the accumulation
  // type -> [N, C].
  virtual Variable FinishCombine(const Variable& weights) = 0;
};

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;
  // x: [N, C], ids: [N, K] i32, experts of the whole layer. Row counts that ranks exchange are
  // taken through Tape::Decide.
  virtual std::unique_ptr<Exchange> BeginDispatch(Tape& tape, const Variable& x,
                                                  const Tensor& ids) = 0;
};

// All experts on this rank.
class LocalDispatcher : public Dispatcher {
 public:
  explicit LocalDispatcher(int64_t num_experts) : num_experts_(num_experts) {}
  std::unique_ptr<Exchange> BeginDispatch(Tape& tape, const Variable& x,
                                          const Tensor& ids) override;

 private:
  int64_t num_experts_;
};

}  // namespace lacuna
