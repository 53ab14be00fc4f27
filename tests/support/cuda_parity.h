// A scope in which every CUDA kernel call is compared with the CPU's (core/cuda/parity.h); its end
// fails the test with the table where one was out of tolerance, or where none was made.
#pragma once

#include <gtest/gtest.h>

#include "core/cuda/parity.h"
#include "core/stream.h"
#include "core/tensor.h"

namespace lacuna::test {

class CudaParity {
 public:
  CudaParity() : observe_(checker_) {}
  ~CudaParity() {
    EXPECT_FALSE(checker_.rows().empty()) << "no CUDA kernel was called";
    EXPECT_TRUE(checker_.passed()) << checker_.Table();
  }
  const cuda::ParityChecker& checker() const { return checker_; }

 private:
  cuda::ParityChecker checker_;
  ObserveKernels observe_;
};

inline Stream CudaStream() {
  return ComputeStream(CudaDevice());
}
inline Tensor OnDevice(const Tensor& x) {
  return x.To(CudaDevice());
}

}  // namespace lacuna::test
