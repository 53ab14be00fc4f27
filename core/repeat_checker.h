// The same work again and again: does every kernel give the same bits? A kernel whose warps race, or
// a device that computes wrongly now and then, shows as an output that differs from the first
// pass's though all outputs before it are the same.
//
//   RepeatChecker checker(ComputeStream(device));
//   for (...) {
//     const ObserveKernels observe(checker);
//     ...the work, of which every kernel call is seen...
//     checker.EndPass();
//   }
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/kernel.h"
#include "core/tensor.h"

namespace lacuna {

class RepeatChecker : public KernelObserver {
 public:
  explicit RepeatChecker(Stream stream) : stream_(stream) {}

  // Hashes every output of the call. Calls on other streams are not looked at.
  void OnCall(const KernelCall& call, const std::function<void()>& run) override;

  // Compares the pass that ends with the first one; waits for the device. False where they differ.
  bool EndPass();

  struct Difference {
    int64_t pass = 0;                      // from 0
    int64_t call = 0;                      // of the pass, from 0
    std::string kernel = {}, output = {};  // the first output that differs
    std::string module = {};               // where in the model, "layers.3.attention"; may be empty
    Shape shape = {};
    int64_t outputs = 0;  // of the pass, that differ
  };
  int64_t passes() const { return passes_; }
  int64_t num_outputs() const { return static_cast<int64_t>(outputs_.size()); }
  const std::vector<Difference>& differences() const { return differences_; }

 private:
  struct Output {
    const char* kernel;
    std::string_view argument;
    std::string module;
    Shape shape;
    int64_t call;
    uint64_t hash = 0;
    bool operator==(const Output& other) const {
      return std::string_view(kernel) == other.kernel && argument == other.argument &&
             shape == other.shape;
    }
  };

  Stream stream_;
  Tensor sums_;                  // [capacity] i64 on the device, of this pass
  std::vector<Output> outputs_;  // of the first pass
  std::vector<Output> now_;      // of this pass
  int64_t calls_ = 0;            // of this pass
  int64_t passes_ = 0;
  std::vector<Difference> differences_;
};

}  // namespace lacuna
