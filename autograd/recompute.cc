#include "autograd/recompute.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "core/memory_category.h"

namespace lacuna {

std::vector<Variable> Recompute(Tape& tape, const char* name, std::vector<Variable> inputs,
                                const Segment& segment, bool keeps_costly) {
  // Inside another segment the outer one already decides what is kept.
  if (!tape.recording() || tape.recomputing()) return segment(tape, inputs);

  auto log = std::make_shared<DecisionLog>();
  Tape first(Tape::Mode::kTrack, tape.stream());
  first.record_ = log.get();
  first.keeps_costly_ = keeps_costly;
  std::vector<Variable> detached;
  std::vector<SavedTensor> saved;
  for (const Variable& input : inputs) {
    detached.emplace_back(input.value());
    saved.emplace_back(input.value());
  }
  std::vector<Tensor> outputs;
  for (const Variable& output : segment(first, detached)) outputs.push_back(output.value());
  std::vector<Parameter*> parameters = std::move(first.touched_);
  std::sort(parameters.begin(), parameters.end());
  parameters.erase(std::unique(parameters.begin(), parameters.end()), parameters.end());

  const Stream stream = tape.stream();
  auto backward = [segment, log, stream, keeps_costly, saved = std::move(saved)](GradContext& g) {
    Tape second(Tape::Mode::kRecord, stream);
    second.replay_ = log.get();
    second.keeps_costly_ = keeps_costly;
    std::vector<Variable> leaves;
    for (size_t i = 0; i < saved.size(); ++i) {
      const Tensor& value = saved[i].get();
      leaves.push_back(g.needs(static_cast<int>(i)) ? second.Leaf(value) : Variable(value));
    }
    const std::vector<Variable> outputs = [&] {
      const MemoryScope scope(MemoryCategory::kRecomputed);
      return segment(second, leaves);
    }();
    std::vector<Tape::Seed> seeds;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (g.dy(static_cast<int>(i)).defined())
        seeds.push_back({outputs[i], g.dy(static_cast<int>(i))});
    }
    second.Backward(std::move(seeds));
    for (size_t i = 0; i < leaves.size(); ++i) {
      if (!leaves[i].requires_grad()) continue;
      Tensor gradient = second.Grad(leaves[i]);
      if (gradient.defined()) g.Set(static_cast<int>(i), std::move(gradient));
    }
  };
  return tape.RecordMany(name, std::move(inputs), std::move(parameters), std::move(outputs),
                         std::move(backward));
}

}  // namespace lacuna
