// Brings rows to their experts and back. Each way is a Begin and a Finish, so that a dispatcher
// between ranks can move rows while others compute (half of the shared experts on each way, and
// deferred weight gradients in backward).
#pragma once

#include <memory>

#include "autograd/tape.h"
#include "moe/functions.h"

namespace lacuna {

class Communicator;

// Tokens that this rank's experts work on, and their choices among these experts.
struct DispatchedTokens {
  Variable x;        // [N, C]; a chunk's tokens are there when it has arrived
  Variable weights;  // [N, K] in the accumulation type
  RoutedRows rows;
  ChunkTraffic traffic = {};  // of the exchange, which must be there until all have left
};

// One forward's way there and back; its calls come in this order, each once.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual DispatchedTokens FinishDispatch() = 0;
  // y: what the experts made of the tokens, the weighted sum of their choices, [N, C]; all chunks have
  // left. Of Tensor::Meta none has, and the sum is Tensor::Meta; so it has to be on all ranks or on none.
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

// The experts are spread over the ranks of a group, E / M each: those of rank r are [r E / M,
// (r + 1) E / M). A token goes once to each rank that has an expert of its choice, and one row
// comes back from there, the weighted sum of that rank's choices; home adds these in rank order.
//
// In forward rows travel in `chunks` parts, by the number of their token at home: the experts work on one
// while the next is on its way, and while the one before it is on its way home. Only the first one's
// way there and the last one's way home need something else to run beside them. Backward moves all rows
// at once: weight gradients run beside them, and want the rows whole.
//
// All ranks call it equally often and in the same order, with any number of rows, and so do the
// backward passes of their tapes. The ranks tell each other the numbers of rows before the shared
// experts: what is received needs a place, and on a card a place that is asked for later would be
// in use until the work that was queued before it is done. Backward holds deferred weight gradients
// (Tape::HoldDeferred) until rows are on their way: those of the experts run under the way back of
// dx, those of the modules before the layer (of the next attention, in a transformer) and of what
// stands between BeginCombine and FinishCombine under the way there of dy.
class AllToAllDispatcher : public Dispatcher {
 public:
  // group, which must outlive the dispatcher and its tapes, carries tensors of the layer's device
  // and of the CPU. Its size has to divide num_experts, those of the whole layer. chunks: the same on
  // all ranks.
  AllToAllDispatcher(int64_t num_experts, Communicator& group, int64_t chunks = 1);
  std::unique_ptr<Exchange> BeginDispatch(Tape& tape, const Variable& x, const Tensor& ids,
                                          const Variable& weights) override;

 private:
  int64_t num_experts_;
  Communicator& group_;
  int64_t chunks_;
};

}  // namespace lacuna
