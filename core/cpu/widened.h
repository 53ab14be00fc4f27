// bf16 operands of CPU kernels: widened to f32 before, rounded after, so that a kernel is written
// for f32 and f64 only.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/tensor_ref.h"

namespace lacuna::cpu {

// Elements of `x` in the compute type A: its own memory, or a widened copy of bf16.
template <class T>
class WidenedInput {
 public:
  using A = ComputeType<T>;
  explicit WidenedInput(const TensorRef& x) {
    if constexpr (std::is_same_v<T, A>) {
      data_ = x.As<T>();
    } else {
      copy_.resize(static_cast<size_t>(x.numel()));
      const T* source = x.As<T>();
      A* target = copy_.data();
      ParallelForChunks(x.numel(), 16384, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) target[i] = Widen(source[i]);
      });
      data_ = copy_.data();
    }
  }
  const A* data() const { return data_; }

 private:
  std::vector<A> copy_;
  const A* data_ = nullptr;
};

// Where a kernel writes elements of `y` in the compute type; Store() rounds them into y where that
// is bf16.
template <class T>
class WidenedOutput {
 public:
  using A = ComputeType<T>;
  explicit WidenedOutput(const TensorRef& y) : ref_(y) {
    if constexpr (std::is_same_v<T, A>) {
      data_ = y.As<T>();
    } else {
      copy_.resize(static_cast<size_t>(y.numel()));
      data_ = copy_.data();
    }
  }
  A* data() { return data_; }
  // What y holds, or zeros, to add to.
  void Load() {
    if constexpr (!std::is_same_v<T, A>) {
      const T* source = ref_.template As<T>();
      ParallelForChunks(ref_.numel(), 16384, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) data_[i] = Widen(source[i]);
      });
    }
  }
  void Clear() {
    ParallelForChunks(ref_.numel(), 16384, 1, [&](int64_t begin, int64_t end) {
      std::fill(data_ + begin, data_ + end, A(0));
    });
  }
  void Store() {
    if constexpr (!std::is_same_v<T, A>) {
      T* target = ref_.template As<T>();
      ParallelForChunks(ref_.numel(), 16384, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) target[i] = Narrow<T>(copy_[static_cast<size_t>(i)]);
      });
    }
  }

 private:
  TensorRef ref_;
  std::vector<A> copy_;
  A* data_ = nullptr;
};

}  // namespace lacuna::cpu
