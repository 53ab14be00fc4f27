// What a block of memory is for: chosen so that each category names the recipe keys that change it
// (recipes/trainer/memory_advice.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace lacuna {

enum class MemoryCategory : uint8_t {
  kParameters,           // what kernels read
  kGradients,            // of the parameters
  kOptimizer,            // moments, master weights
  kActivations,          // of a forward pass: what is kept for backward, and what is not
  kRecomputed,           // activations of a segment that runs forward again in backward
  kActivationGradients,  // what flows back, and what a backward rule needs on the way
  kLogits,         // of a chunk of tokens, with the loss and the gradient that enters backward
  kCommunication,  // buffers of collectives
  kWorkspace,      // of a CUDA kernel or library while it runs
  kOther,
};
inline constexpr size_t kNumMemoryCategories = 10;

constexpr const char* NameOf(MemoryCategory category) {
  constexpr const char* kNames[kNumMemoryCategories] = {
      "parameters",           "gradients", "optimizer",     "activations", "recomputed activations",
      "activation gradients", "logits",    "communication", "workspace",   "other"};
  return kNames[static_cast<size_t>(category)];
}

// Memory that this thread allocates within the scope is of `category`; the innermost scope counts.
// A block keeps its category: it is given back from the same, wherever it is freed.
class MemoryScope {
 public:
  explicit MemoryScope(MemoryCategory category)
      : before_(std::exchange(CurrentOfThread(), category)) {}
  ~MemoryScope() { CurrentOfThread() = before_; }
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

  // kOther outside every scope.
  static MemoryCategory Current() { return CurrentOfThread(); }

 private:
  static MemoryCategory& CurrentOfThread() {
    thread_local MemoryCategory current = MemoryCategory::kOther;
    return current;
  }

  MemoryCategory before_;
};

}  // namespace lacuna
