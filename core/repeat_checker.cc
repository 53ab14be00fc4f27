#include "core/repeat_checker.h"

#include <algorithm>

#include "core/content_hash.h"
#include "core/profile_range.h"

namespace lacuna {
namespace {

constexpr int64_t kCapacity = 1 << 16;

}  // namespace

void RepeatChecker::OnCall(const KernelCall& call, const std::function<void()>& run) {
  run();
  if (call.stream.device != stream_.device) return;
  if (!sums_.defined()) sums_ = Tensor::Zeros({kCapacity}, DType::kI64, stream_.device);
  auto* const sums = static_cast<uint64_t*>(sums_.MutableRef().data);
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    const Argument& argument = call.arguments.begin()[i];
    const TensorRef& tensor = call.tensors[i];
    if (argument.access == Access::kRead || !tensor.defined() || tensor.numel() == 0) continue;
    LACUNA_CHECK(now_.size() < static_cast<size_t>(kCapacity), "repeat: more than {} outputs",
                 kCapacity);
    AddContentHash(tensor, sums + now_.size(), stream_);
    const char* const module = ModuleRange::Current();
    now_.push_back({.kernel = call.name,
                    .argument = argument.name,
                    .module = module == nullptr ? "" : module,
                    .shape = Shape(tensor.shape, tensor.shape + tensor.rank),
                    .call = calls_});
  }
  ++calls_;
}

bool RepeatChecker::EndPass() {
  LACUNA_CHECK(!now_.empty(), "repeat: a pass without a kernel call");
  const Tensor sums = sums_.Slice(0, static_cast<int64_t>(now_.size())).To(kCpu);
  for (size_t i = 0; i < now_.size(); ++i)
    now_[i].hash = static_cast<uint64_t>(sums.data<int64_t>()[i]);
  sums_.Zero();
  std::vector<Output> pass = std::move(now_);
  now_.clear();
  calls_ = 0;
  if (passes_++ == 0) {
    outputs_ = std::move(pass);
    return true;
  }
  Difference difference{.pass = passes_ - 1};
  for (size_t i = 0; i < std::max(pass.size(), outputs_.size()); ++i) {
    const bool same_call = i < pass.size() && i < outputs_.size() && pass[i] == outputs_[i];
    if (same_call && pass[i].hash == outputs_[i].hash) continue;
    if (difference.outputs++ > 0) continue;
    const Output& first = i < pass.size() ? pass[i] : outputs_[i];
    difference.call = first.call;
    difference.kernel = first.kernel;
    difference.output = first.argument;
    difference.module = first.module;
    difference.shape = first.shape;
  }
  if (difference.outputs == 0) return true;
  differences_.push_back(std::move(difference));
  return false;
}

}  // namespace lacuna
