// Tape: the record of a forward pass, replayed once in reverse.
//
// A rule is a function: it runs its forward kernel and, on a recording tape, leaves a closure that
// turns output gradients into input gradients (see autograd/functions/). Nodes stand in execution
// order; Backward is one reverse loop without recursion, and a node's closure (with all it saved)
// is destroyed as soon as it ran.
//
//   Variable RmsNorm(Tape& tape, const Variable& x, Parameter& weight, float eps) {
//     ... y, rstd = kernel(x, weight) ...
//     return tape.Record("rms_norm", {x}, {&weight}, y, [=, sx =
//       SavedTensor(x.value())](GradContext& g) {
//       Tensor dx = ...kernel(g.dy(), sx.get(), ...), adds into weight.grad...
//       g.Set(0, dx);
//     });
//   }
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "autograd/parameter.h"
#include "autograd/saved_tensor.h"
#include "autograd/variable.h"
#include "core/device.h"

namespace lacuna {

class Tape;

// What a closure of a node sees during Backward.
class GradContext {
 public:
  // Gradient of output i; undefined where none reached it (count as zero).
  const Tensor& dy(int output = 0) const { return dy_[static_cast<size_t>(output)]; }
  // True where the gradient of output 0 is the tape's seed of one (Tape::BackwardFrom).
  bool dy_is_one() const;
  bool needs(int input) const;
  // The gradient of output 0 for a rule that may overwrite it, when it is unique().
  Tensor TakeDy() { return std::move(dy_[0]); }
  // Hands over the gradient of an input (same shape and dtype). The tape sums over a variable's
  // consumers, last consumer first.
  void Set(int input, Tensor gradient);
  // What later consumers of an input have given so far, undefined if nothing: the caller adds it to
  // the gradient that it sets, in its own kernel, and may write it if it is unique().
  Tensor TakeSum(int input);
  // Work that only adds to parameter gradients and may wait. It runs right after this closure, or,
  // while Tape::HoldDeferred is on, at the next Tape::RunDeferred. The node's parameters count as
  // unfinished until then.
  void Defer(std::function<void()> work);

 private:
  friend class Tape;
  GradContext(Tape& tape, size_t node, std::vector<Tensor> dy)
      : tape_(tape), node_(node), dy_(std::move(dy)) {}

  Tape& tape_;
  size_t node_;
  std::vector<Tensor> dy_;
};

// Non-differentiable decisions of a recomputed segment (routing ids, selected blocks, counts), and
// what else it keeps, in the order they were taken.
struct DecisionLog {
  std::vector<std::vector<Tensor>> decisions;
  size_t next = 0;
};

class Tape {
 public:
  enum class Mode {
    kRecord,     // keep closures
    kInference,  // keep nothing
    // keep nothing but the parameters used and the decisions taken (forward of a recomputed
    // segment)
    kTrack,
  };
  using BackwardFn = std::function<void(GradContext&)>;

  explicit Tape(Mode mode = Mode::kRecord, Stream stream = kCpuStream)
      : mode_(mode), stream_(stream) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  bool recording() const { return mode_ == Mode::kRecord; }
  // True in the second forward of a recomputed segment: no metric and no loss may be counted again.
  bool recomputing() const { return replay_ != nullptr; }
  Stream stream() const { return stream_; }

  // An input whose gradient is asked for (Grad).
  Variable Leaf(Tensor value);

  // Adds a node with one output / several outputs. Without any input or parameter to differentiate
  // the outputs are constants.
  Variable Record(const char* name, std::vector<Variable> inputs,
                  std::vector<Parameter*> parameters, Tensor output, BackwardFn backward);
  std::vector<Variable> RecordMany(const char* name, std::vector<Variable> inputs,
                                   std::vector<Parameter*> parameters, std::vector<Tensor> outputs,
                                   BackwardFn backward);

  // Runs `work` where backward comes to this place: behind all that is recorded later, whether a
  // gradient reached that or not. Nothing on a tape that does not record.
  void AtBackward(const char* name, std::function<void()> work);

  // Runs `decide`, or in a recomputed segment returns what it gave the first time.
  std::vector<Tensor> Decide(const std::function<std::vector<Tensor>()>& decide);
  // Runs `compute`, whose results take long for their size. A recomputed segment that keeps such
  // results (autograd/recompute.h) returns what it gave the first time instead.
  std::vector<Tensor> Costly(const std::function<std::vector<Tensor>()>& compute) {
    return keeps_costly_ ? Decide(compute) : compute();
  }
  // Every decision from now on is also written to `log`, in order, for whoever wants to see them.
  void set_decision_log(DecisionLog* log) { record_ = log; }

  // Gradients of all leaves and parameters from the gradients of some outputs. Can run once. With
  // fire_hooks each parameter's on_grad_ready is called when its last consumer is done.
  struct Seed {
    Variable output;
    Tensor gradient;
  };
  void Backward(std::vector<Seed> seeds, bool fire_hooks = false);
  // Of a loss alone, whose gradient is one.
  void BackwardFrom(const Variable& loss, bool fire_hooks = false);
  // Gradient of a leaf after Backward; undefined where none reached it.
  Tensor Grad(const Variable& leaf) const;

  // Keeps deferred work back until RunDeferred, which a closure calls while it waits for
  // communication (or Backward at its end).
  void HoldDeferred(bool hold) { hold_deferred_ = hold; }
  void RunDeferred();

  size_t num_nodes() const { return nodes_.size(); }

 private:
  friend class GradContext;
  friend std::vector<Variable> Recompute(
      Tape&, const char*, std::vector<Variable>,
      const std::function<std::vector<Variable>(Tape&, const std::vector<Variable>&)>&, bool);

  struct Node {
    const char* name;
    const char* module;            // ModuleRange it was recorded in, or null
    std::vector<int32_t> inputs;   // slots, -1 where no gradient is wanted
    std::vector<int32_t> outputs;  // slots
    std::vector<Parameter*> parameters;
    BackwardFn backward;
  };
  struct Deferred {
    std::vector<Parameter*> parameters;
    std::function<void()> work;
  };

  int32_t NewSlot();
  void RunNode(size_t index);
  void Accumulate(int32_t slot, Tensor gradient, const char* name);
  void Finish(const std::vector<Parameter*>& parameters);

  Mode mode_;
  Stream stream_;
  bool fire_hooks_ = false;
  bool ran_ = false;
  int32_t slot_of_one_ = -1;  // BackwardFrom's loss
  std::vector<Node> nodes_;
  std::vector<Tensor> grads_;  // by slot
  std::vector<Shape> shapes_;  // by slot, to check gradients against
  std::vector<bool> is_leaf_;  // by slot
  std::vector<Deferred> deferred_;
  bool node_deferred_ = false;
  bool hold_deferred_ = false;
  absl::flat_hash_map<Parameter*, int> pending_;  // consumers a parameter still waits for
  std::vector<Parameter*> touched_;               // kTrack
  DecisionLog* record_ = nullptr;                 // kTrack, and set_decision_log
  DecisionLog* replay_ = nullptr;                 // second forward of a segment
  bool keeps_costly_ = false;                     // both forwards of a segment
};

}  // namespace lacuna
