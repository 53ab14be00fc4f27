#include "core/ops/cuda/attention_cudnn_plans.h"

#include <cudnn.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <thread>

#include "core/cuda/check.h"
#include "core/cuda/dnn.h"
#include "core/cuda/graph.h"
#include "core/error.h"
#include "core/ops/attention_split.h"

namespace lacuna::cuda {
namespace {

constexpr int kHopper = 9;

}  // namespace

SdpaPlans& SdpaPlans::Of(Device device) {
  constexpr size_t kMaxDevices = 16;
  static auto* const plans = new std::array<SdpaPlans, kMaxDevices>;  // outlives static tensors
  return (*plans)[static_cast<size_t>(device.index)];
}

bool SdpaPlans::on_hopper(Device device) {
  std::lock_guard lock(mutex_);
  if (compute_major_ == 0) {
    LACUNA_CUDA_CHECK(
        cudaDeviceGetAttribute(&compute_major_, cudaDevAttrComputeCapabilityMajor, device.index));
  }
  return compute_major_ == kHopper;
}

std::vector<const SdpaPlan*> SdpaPlans::Find(std::span<const SdpaShape> shapes, Stream stream) {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<const SdpaShape*, Made*>> missing;
  for (const SdpaShape& shape : shapes) {
    if (!plans_.contains(shape))
      RefuseInCapture("attention has no plan of cuDNN yet; the work has to run once before");
    const auto [entry, is_new] = plans_.try_emplace(shape);
    if (is_new) missing.emplace_back(&entry->first, &entry->second);
  }
  LACUNA_CHECK(missing.size() <= kMaxDnnThreads, "attention: {} plans at once", missing.size());
  const auto make = [&](size_t i) {
    auto& [shape, made] = missing[i];
    made->plan = SdpaPlan::Make(*shape, stream, i, &made->failure);
  };
  std::vector<std::jthread> threads;
  for (size_t i = 1; i < missing.size(); ++i) {
    threads.emplace_back([&make, &missing, i, device = stream.device.index] {
      // A thread starts on device 0.
      if (const cudaError_t status = cudaSetDevice(device); status == cudaSuccess) {
        make(i);
      } else {
        missing[i].second->failure = cudaGetErrorString(status);
      }
    });
  }
  if (!missing.empty()) make(0);
  threads.clear();  // joins
  for (const auto& [shape, made] : missing) Report(*shape, *made);

  std::vector<const SdpaPlan*> found;
  for (const SdpaShape& shape : shapes) found.push_back(plans_.at(shape).plan.get());
  return found;
}

void SdpaPlans::Run(const SdpaPlan& plan, const SdpaTensors& tensors, const RaggedLayout* documents,
                    void* workspace, Stream stream) {
  std::lock_guard lock(mutex_);  // handles are for one thread at a time
  plan.Run(tensors, documents, workspace, stream);
}

int64_t SdpaPlans::size() {
  std::lock_guard lock(mutex_);
  return static_cast<int64_t>(plans_.size());
}

void SdpaPlans::Report(const SdpaShape& s, const Made& made) {
  if (made.plan != nullptr) return;
  spdlog::warn(
      "{}: Lacuna's own kernel instead of cuDNN {} for {} documents of up to {} tokens, {} heads "
      "in {} groups, Dk {}, Dv {}, window {}: {}",
      s.backward ? "attention_bwd" : "attention_fwd", cudnnGetVersion(),
      std::max<int64_t>(s.documents, 1), s.length, s.heads, s.groups, s.dk, s.dv, s.window,
      made.failure);
}

}  // namespace lacuna::cuda
