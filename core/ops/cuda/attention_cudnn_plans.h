// The plans of a device's attention through cuDNN, made at the first call of their sizes and kept
// as long as the program.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/ops/cuda/attention_cudnn_plan.h"

namespace lacuna::cuda {

class SdpaPlans {
 public:
  static SdpaPlans& Of(Device device);

  bool on_hopper(Device device);

  // The plans of these shapes, null where cuDNN refuses. Those that are missing are made side by
  // side, a thread each, every thread with a cuDNN handle of its own: a new kind of batch costs the
  // time of one plan.
  std::vector<const SdpaPlan*> Find(std::span<const SdpaShape> shapes, Stream stream);

  void Run(const SdpaPlan& plan, const SdpaTensors& tensors, const RaggedLayout* documents,
           void* workspace, Stream stream);

  int64_t size();  // plans so far, refused ones among them

 private:
  struct Made {
    std::unique_ptr<SdpaPlan> plan;
    std::string failure;
  };
  static void Report(const SdpaShape& shape, const Made& made);

  std::mutex mutex_;
  int compute_major_ = 0;
  std::map<SdpaShape, Made> plans_;
};

}  // namespace lacuna::cuda
