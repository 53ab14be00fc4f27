#include "autograd/tape.h"

#include <algorithm>
#include <optional>

#include "core/memory_category.h"
#include "core/ops/elementwise.h"
#include "core/profile_range.h"

namespace lacuna {

bool GradContext::needs(int input) const {
  return tape_.nodes_[node_].inputs[static_cast<size_t>(input)] >= 0;
}

bool GradContext::dy_is_one() const {
  return tape_.slot_of_one_ >= 0 && tape_.nodes_[node_].outputs[0] == tape_.slot_of_one_;
}

void GradContext::Set(int input, Tensor gradient) {
  const Tape::Node& node = tape_.nodes_[node_];
  const int32_t slot = node.inputs[static_cast<size_t>(input)];
  if (slot >= 0) tape_.Accumulate(slot, std::move(gradient), node.name);
}

Tensor GradContext::TakeSum(int input) {
  const int32_t slot = tape_.nodes_[node_].inputs[static_cast<size_t>(input)];
  return slot >= 0 ? std::exchange(tape_.grads_[static_cast<size_t>(slot)], Tensor()) : Tensor();
}

void GradContext::Defer(std::function<void()> work) {
  tape_.deferred_.push_back({tape_.nodes_[node_].parameters, std::move(work)});
  tape_.node_deferred_ = true;
}

int32_t Tape::NewSlot() {
  grads_.emplace_back();
  shapes_.emplace_back();
  is_leaf_.push_back(false);
  return static_cast<int32_t>(grads_.size()) - 1;
}

Variable Tape::Leaf(Tensor value) {
  if (mode_ != Mode::kRecord) return Variable(std::move(value));
  const int32_t slot = NewSlot();
  shapes_[static_cast<size_t>(slot)] = value.shape();
  is_leaf_[static_cast<size_t>(slot)] = true;
  return Variable(std::move(value), slot);
}

Variable Tape::Record(const char* name, std::vector<Variable> inputs,
                      std::vector<Parameter*> parameters, Tensor output, BackwardFn backward) {
  std::vector<Tensor> outputs;
  outputs.push_back(std::move(output));
  return RecordMany(name, std::move(inputs), std::move(parameters), std::move(outputs),
                    std::move(backward))[0];
}

std::vector<Variable> Tape::RecordMany(const char* name, std::vector<Variable> inputs,
                                       std::vector<Parameter*> parameters,
                                       std::vector<Tensor> outputs, BackwardFn backward) {
  if (mode_ == Mode::kTrack) touched_.insert(touched_.end(), parameters.begin(), parameters.end());
  const bool differentiable =
      !parameters.empty() || std::any_of(inputs.begin(), inputs.end(),
                                         [](const Variable& v) { return v.requires_grad(); });
  std::vector<Variable> results;
  results.reserve(outputs.size());
  if (mode_ != Mode::kRecord || !differentiable) {
    for (Tensor& output : outputs) results.emplace_back(std::move(output));
    return results;
  }
  LACUNA_CHECK(!ran_, "{}: recorded on a tape whose Backward already ran", name);
  Node node{name, ModuleRange::Current(), {}, {}, std::move(parameters), std::move(backward)};
  for (const Variable& input : inputs) node.inputs.push_back(input.slot_);
  for (Tensor& output : outputs) {
    const int32_t slot = NewSlot();
    shapes_[static_cast<size_t>(slot)] = output.shape();
    node.outputs.push_back(slot);
    results.push_back(Variable(std::move(output), slot));
  }
  for (Parameter* parameter : node.parameters) ++pending_[parameter];
  nodes_.push_back(std::move(node));
  return results;
}

void Tape::AtBackward(const char* name, std::function<void()> work) {
  if (mode_ != Mode::kRecord) return;
  LACUNA_CHECK(!ran_, "{}: recorded on a tape whose Backward already ran", name);
  nodes_.push_back(
      {name, ModuleRange::Current(), {}, {}, {}, [work = std::move(work)](GradContext&) {
         work();
       }});
}

std::vector<Tensor> Tape::Decide(const std::function<std::vector<Tensor>()>& decide) {
  if (replay_ != nullptr) {
    LACUNA_CHECK(replay_->next < replay_->decisions.size(),
                 "a recomputed segment took more decisions than its first forward");
    return std::move(replay_->decisions[replay_->next++]);
  }
  std::vector<Tensor> decision = decide();
  if (record_ != nullptr) record_->decisions.push_back(decision);
  return decision;
}

void Tape::Backward(std::vector<Seed> seeds, bool fire_hooks) {
  LACUNA_CHECK(mode_ == Mode::kRecord && !ran_, "Backward needs a recording tape and runs once");
  ran_ = true;
  fire_hooks_ = fire_hooks;
  for (Seed& seed : seeds) {
    if (seed.output.slot_ >= 0) Accumulate(seed.output.slot_, std::move(seed.gradient), "seed");
  }
  seeds.clear();
  const MemoryScope scope(MemoryCategory::kActivationGradients);
  std::optional<ProfileRange> range;  // of neighbouring nodes of the same module
  const char* module = nullptr;
  for (size_t i = nodes_.size(); i-- > 0;) {
    if (nodes_[i].module != module) {
      module = nodes_[i].module;
      range.reset();
      if (module != nullptr) range.emplace(module);
    }
    RunNode(i);
  }
  RunDeferred();
}

void Tape::BackwardFrom(const Variable& loss, bool fire_hooks) {
  LACUNA_CHECK(loss.value().numel() == 1, "a loss of shape {}", ToString(loss.shape()));
  Tensor one = Tensor::EmptyLike(loss.value());
  ops::Fill({.y = one.MutableRef(), .value = 1}, stream_);
  slot_of_one_ = loss.slot_;
  Backward({{loss, std::move(one)}}, fire_hooks);
}

void Tape::RunNode(size_t index) {
  node_deferred_ = false;
  std::vector<Tensor> dy;
  bool reached = nodes_[index].outputs.empty();  // AtBackward's
  for (const int32_t slot : nodes_[index].outputs) {
    dy.push_back(std::exchange(grads_[static_cast<size_t>(slot)], Tensor()));
    reached |= dy.back().defined();
  }
  if (reached) {
    for (Parameter* parameter : nodes_[index].parameters) {
      if (parameter->on_grad_wanted) parameter->on_grad_wanted(*parameter);
    }
    const ProfileRange range(nodes_[index].name);
    GradContext context(*this, index, std::move(dy));
    nodes_[index].backward(context);
  }
  nodes_[index].backward = nullptr;
  if (!node_deferred_) Finish(nodes_[index].parameters);
  if (!hold_deferred_) RunDeferred();
}

void Tape::Accumulate(int32_t slot, Tensor gradient, const char* name) {
  const size_t s = static_cast<size_t>(slot);
  LACUNA_CHECK(gradient.defined() && gradient.shape() == shapes_[s],
               "{}: gradient has shape {}, its variable {}", name,
               gradient.defined() ? ToString(gradient.shape()) : "none", ToString(shapes_[s]));
  Tensor& sum = grads_[s];
  if (sum.defined() && slot == slot_of_one_) slot_of_one_ = -1;
  if (!sum.defined()) {
    sum = std::move(gradient);
    return;
  }
  // The running sum is overwritten only where nobody else sees it (a rule may hand one tensor to
  // two inputs).
  Tensor out = sum.unique() ? sum : Tensor::EmptyLike(sum);
  const TensorRef a = sum.Ref();
  ops::Add({.a = a, .b = gradient.Ref(), .y = out.MutableRef()}, stream_);
  sum = std::move(out);
}

Tensor Tape::Grad(const Variable& leaf) const {
  LACUNA_CHECK(leaf.slot_ >= 0 && is_leaf_[static_cast<size_t>(leaf.slot_)],
               "Grad of a variable that is no leaf of this tape");
  return grads_[static_cast<size_t>(leaf.slot_)];
}

void Tape::RunDeferred() {
  std::vector<Deferred> work = std::exchange(deferred_, {});
  for (Deferred& item : work) {
    item.work();
    Finish(item.parameters);
  }
}

void Tape::Finish(const std::vector<Parameter*>& parameters) {
  for (Parameter* parameter : parameters) {
    const auto it = pending_.find(parameter);
    if (--it->second == 0 && fire_hooks_ && parameter->on_grad_ready)
      parameter->on_grad_ready(*parameter);
  }
}

}  // namespace lacuna
