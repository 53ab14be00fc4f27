#include "nn/flat_parameters.h"

#include <xxhash.h>

#include <unordered_set>
#include <utility>
#include <vector>

#include "core/memory_category.h"
#include "core/ops/elementwise.h"
#include "core/ops/random_normal.h"
#include "core/stream.h"

namespace lacuna {
namespace {

template <class T>
Tensor Elements(const Parameter& parameter) {
  std::vector<T> values(static_cast<size_t>(parameter.numel()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] =
        static_cast<T>(parameter.init.element(parameter.first_element() + static_cast<int64_t>(i)));
  return Tensor::FromVector(values, parameter.shape);
}

// Element k is a pure function of (seed, name, k).
void Fill(const Parameter& parameter, uint64_t seed, Tensor master) {
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
    case Init::Kind::kFunction:
      return master.CopyFrom(master.dtype() == DType::kF64 ? Elements<double>(parameter)
                                                           : Elements<float>(parameter));
  }
}

FlatLayout LayoutOf(Module& root, const Sharding& sharding, DType dtype) {
  std::vector<Parameter*> parameters;
  std::unordered_set<std::string> names;
  root.ForEachParameter([&](Parameter& parameter) {
    LACUNA_CHECK(names.insert(parameter.name).second, "two parameters are named {}",
                 parameter.name);
    parameters.push_back(&parameter);
  });
  LACUNA_CHECK(!parameters.empty(), "a model without parameters");
  return FlatLayout(parameters, sharding, SizeOf(AccumulationType(dtype)));
}

}  // namespace

FlatParameters::FlatParameters(Module& root, DType dtype, uint64_t seed, bool gradients,
                               Device device, const Sharding& sharding)
    : layout_(LayoutOf(root, sharding, dtype)) {
  const DType accumulation = AccumulationType(dtype);
  const auto zeros = [&](int64_t size, DType type, MemoryCategory category) {
    const MemoryScope scope(category);
    return Tensor::Zeros({size}, type, device);
  };
  value_ = zeros(layout_.value_size, dtype, MemoryCategory::kParameters);
  if (gradients) grad_ = zeros(layout_.local_size, accumulation, MemoryCategory::kGradients);
  master_ = dtype == accumulation
                ? value_
                : zeros(layout_.local_size, accumulation, MemoryCategory::kOptimizer);
  for (const FlatBucket& bucket : layout_.buckets) {
    PointIntoBuffers(bucket);
    Initialise(bucket, seed);
  }
  SyncValueFromMaster();
}

void FlatParameters::PointIntoBuffers(const FlatBucket& bucket) {
  for (const size_t i : bucket.entries) {
    Parameter& parameter = *entries()[i].parameter;
    const int64_t offset = entries()[i].offset - bucket.begin;
    if (bucket.values_sharded) {
      parameter.share = value_.View(bucket.values, {bucket.kept()});
    } else {
      parameter.value = value_.View(bucket.values + offset, parameter.shape);
    }
    if (grad_.defined() && !bucket.sharded)
      parameter.grad = grad_.View(bucket.local + offset, parameter.shape);
  }
}

void FlatParameters::Initialise(const FlatBucket& bucket, uint64_t seed) {
  if (bucket.values_sharded || (bucket.sharded && !master_is_value()))
    return InitialiseShare(bucket, seed);
  for (const size_t i : bucket.entries) {
    Parameter& parameter = *entries()[i].parameter;
    const int64_t offset = entries()[i].offset - bucket.begin;
    Fill(
        parameter, seed,
        master_is_value() ? parameter.value : master_.View(bucket.local + offset, parameter.shape));
  }
}

// One parameter after the other is whole for the time.
void FlatParameters::InitialiseShare(const FlatBucket& bucket, uint64_t seed) {
  for (const size_t i : bucket.entries) {
    Parameter& parameter = *entries()[i].parameter;
    Tensor whole = Tensor::Empty(parameter.shape, master_.dtype(), device());
    Fill(parameter, seed, whole);
    if (parameter.value.defined())
      ops::Cast({.x = whole.Ref(), .y = parameter.value.MutableRef()}, ComputeStream(device()));
    for (const FlatPiece& piece : layout_.updated) {
      if (piece.entry == i) MasterOf(piece).CopyFrom(whole.View(piece.first, {piece.count}));
    }
  }
}

Tensor FlatParameters::MasterOf(const Entry& entry) const {
  LACUNA_CHECK(!is_sharded(), "{}: this rank has only a share of its master copy",
               entry.parameter->name);
  return master_.View(entry.offset, entry.parameter->shape);
}

void FlatParameters::ZeroGrad(const FlatBucket& bucket, Tensor buffer) {
  int64_t begin = 0;
  const auto zero_until = [&](int64_t end) {
    if (end > begin) buffer.View(begin, {end - begin}).Zero();
  };
  for (const size_t i : bucket.entries) {
    Parameter& parameter = *entries()[i].parameter;
    if (!parameter.gradient_can_be_set) continue;
    const int64_t offset = entries()[i].offset - bucket.begin;
    zero_until(offset);
    parameter.gradient_is_unset = true;
    begin = offset + parameter.numel();  // the padding behind it is zeroed too
  }
  zero_until(bucket.size());
}

void FlatParameters::ZeroGrad() {
  for (const FlatBucket& bucket : layout_.buckets) {
    if (!bucket.sharded) ZeroGrad(bucket, grad_.View(bucket.local, {bucket.size()}));
  }
}

void FlatParameters::ZeroUnsetGrad(const FlatBucket& bucket) {
  for (const size_t i : bucket.entries) {
    Parameter& parameter = *entries()[i].parameter;
    if (parameter.grad.defined() && !parameter.AddsGradient()) parameter.grad.Zero();
  }
}

void FlatParameters::ZeroUnsetGrad() {
  for (const FlatBucket& bucket : layout_.buckets) ZeroUnsetGrad(bucket);
}

void FlatParameters::AttachGrad(const FlatBucket& bucket, Tensor buffer) {
  ZeroGrad(bucket, buffer);
  for (const size_t i : bucket.entries) {
    const Entry& entry = entries()[i];
    entry.parameter->grad = buffer.View(entry.offset - bucket.begin, entry.parameter->shape);
  }
}

void FlatParameters::DetachGrad(const FlatBucket& bucket) {
  for (const size_t i : bucket.entries) std::exchange(entries()[i].parameter->grad, Tensor());
}

void FlatParameters::AttachValues(const FlatBucket& bucket, Tensor buffer) {
  for (const size_t i : bucket.entries) {
    const Entry& entry = entries()[i];
    entry.parameter->value = buffer.View(entry.offset - bucket.begin, entry.parameter->shape);
  }
}

void FlatParameters::DetachValues(const FlatBucket& bucket) {
  for (const size_t i : bucket.entries) std::exchange(entries()[i].parameter->value, Tensor());
}

void FlatParameters::SyncValueFromMaster() {
  if (master_is_value()) return;
  const Stream stream = ComputeStream(device());
  if (!is_sharded()) return ops::Cast({.x = master_.Ref(), .y = value_.MutableRef()}, stream);
  for (const FlatPiece& piece : layout_.updated) {
    Tensor value = ValueOf(piece);
    ops::Cast({.x = MasterOf(piece).Ref(), .y = value.MutableRef()}, stream);
  }
}

}  // namespace lacuna
