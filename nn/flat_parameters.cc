#include "nn/flat_parameters.h"

#include <xxhash.h>

#include <unordered_set>

#include "core/dispatch.h"
#include "core/ops/elementwise.h"
#include "core/parallel.h"
#include "core/random.h"

namespace lacuna {
namespace {

constexpr int64_t kAlignment = 16;  // elements

void Initialise(Parameter& parameter, uint64_t seed, Tensor master) {
  const uint64_t hash = XXH3_64bits(parameter.name.data(), parameter.name.size());
  DispatchAccumulation(master.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* out = master.mutable_data<T>();
    ParallelForChunks(master.numel(), 4096, 100, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k)
        out[k] = static_cast<T>(InitialValue(parameter.init, seed, hash, k));
    });
  });
}

}  // namespace

double InitialValue(const Init& init, uint64_t seed, uint64_t name_hash, int64_t k) {
  switch (init.kind) {
    case Init::Kind::kZeros:
      return 0.0;
    case Init::Kind::kOnes:
      return 1.0;
    case Init::Kind::kNormal:
      return init.std * PhiloxNormal(seed, name_hash, static_cast<uint64_t>(k));
  }
  return 0.0;
}

FlatParameters::FlatParameters(Module& root, DType dtype, uint64_t seed, bool gradients) {
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
  value_ = Tensor::Zeros({size}, dtype);
  if (gradients) grad_ = Tensor::Zeros({size}, accumulation);
  master_ = dtype == accumulation ? value_ : Tensor::Zeros({size}, accumulation);
  for (const Entry& entry : entries_) {
    Parameter& parameter = *entry.parameter;
    parameter.value = value_.View(entry.offset, parameter.shape);
    if (gradients) parameter.grad = grad_.View(entry.offset, parameter.shape);
    Initialise(parameter, seed, MasterOf(entry));
  }
  SyncValueFromMaster();
}

void FlatParameters::ZeroGrad() {
  grad_.Zero();
}

void FlatParameters::SyncValueFromMaster() {
  if (value_.dtype() == master_.dtype()) return;
  ops::Cast({.x = master_.Ref(), .y = value_.MutableRef()}, kCpuStream);
}

}  // namespace lacuna
