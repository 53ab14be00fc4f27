#include "nn/flat_parameters.h"

#include <xxhash.h>

#include <unordered_set>

#include "core/memory_category.h"
#include "core/ops/elementwise.h"
#include "core/ops/random_normal.h"
#include "core/stream.h"

namespace lacuna {
namespace {

constexpr int64_t kAlignment = 16;  // elements

// Element k is a pure function of (seed, name, k).
void Initialise(const Parameter& parameter, uint64_t seed, Tensor master) {
  const Stream stream = ComputeStream(master.device());
  switch (parameter.init.kind) {
    case Init::Kind::kZeros:
      return master.Zero();
    case Init::Kind::kOnes:
      return ops::Fill({.y = master.MutableRef(), .value = 1}, stream);
    case Init::Kind::kNormal:
      return ops::RandomNormal({.y = master.MutableRef(),
                                .key = seed,
                                .stream = XXH3_64bits(parameter.name.data(), parameter.name.size()),
                                .std = parameter.init.std,
                                .first = static_cast<uint64_t>(parameter.first_element())},
                               stream);
  }
}

}  // namespace

FlatParameters::FlatParameters(Module& root, DType dtype, uint64_t seed, bool gradients,
                               Device device) {
  int64_t size = 0;
  std::unordered_set<std::string> names;
  root.ForEachParameter([&](Parameter& parameter) {
    LACUNA_CHECK(names.insert(parameter.name).second, "two parameters are named {}",
                 parameter.name);
    entries_.push_back({&parameter, size});
    size += (parameter.numel() + kAlignment - 1) / kAlignment * kAlignment;
  });
  LACUNA_CHECK(size > 0, "a model without parameters");
  const DType accumulation = AccumulationType(dtype);
  const auto zeros = [&](DType type, MemoryCategory category) {
    const MemoryScope scope(category);
    return Tensor::Zeros({size}, type, device);
  };
  value_ = zeros(dtype, MemoryCategory::kParameters);
  if (gradients) grad_ = zeros(accumulation, MemoryCategory::kGradients);
  master_ = dtype == accumulation ? value_ : zeros(accumulation, MemoryCategory::kOptimizer);
  for (const Entry& entry : entries_) {
    Parameter& parameter = *entry.parameter;
    parameter.value = value_.View(entry.offset, parameter.shape);
    if (gradients) parameter.grad = grad_.View(entry.offset, parameter.shape);
    Initialise(parameter, seed, MasterOf(entry));
  }
  SyncValueFromMaster();
}

void FlatParameters::ZeroGrad() {
  int64_t begin = 0;
  const auto zero_until = [&](int64_t end) {
    if (end > begin) grad_.View(begin, {end - begin}).Zero();
  };
  for (const Entry& entry : entries_) {
    Parameter& parameter = *entry.parameter;
    if (!parameter.gradient_can_be_set) continue;
    zero_until(entry.offset);
    parameter.gradient_is_unset = true;
    begin = entry.offset + parameter.numel();  // the padding behind it is zeroed too
  }
  zero_until(size());
}

void FlatParameters::ZeroUnsetGrad() {
  for (const Entry& entry : entries_) {
    if (!entry.parameter->AddsGradient()) entry.parameter->grad.Zero();
  }
}

void FlatParameters::SyncValueFromMaster() {
  if (value_.dtype() == master_.dtype()) return;
  ops::Cast({.x = master_.Ref(), .y = value_.MutableRef()}, ComputeStream(device()));
}

}  // namespace lacuna
