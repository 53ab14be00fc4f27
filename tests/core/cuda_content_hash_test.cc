#include <gtest/gtest.h>

#include "core/content_hash.h"
#include "core/stream.h"
#include "core/tensor.h"

namespace lacuna {
namespace {

uint64_t OnHost(const Tensor& x) {
  uint64_t sum = 0;
  AddContentHash(x.Ref(), &sum, kCpuStream);
  return sum;
}

TEST(CudaContentHash, EqualsTheHosts) {
  for (const int64_t bytes : {1, 7, 8, 9, 4096, 1000003}) {
    Tensor x = Tensor::Empty({bytes + 1}, DType::kU8);
    auto* data = static_cast<uint8_t*>(x.MutableRef().data);
    for (int64_t i = 0; i <= bytes; ++i) data[i] = static_cast<uint8_t>(i * 7 + i / 256);
    const Tensor on_device = x.To(CudaDevice());
    for (const int64_t first : {0, 1}) {  // the second begins at an odd address
      Tensor sum = Tensor::Zeros({1}, DType::kI64, CudaDevice());
      AddContentHash(on_device.Slice(first, first + bytes).Ref(),
                     static_cast<uint64_t*>(sum.MutableRef().data), ComputeStream(CudaDevice()));
      EXPECT_EQ(static_cast<uint64_t>(sum.To(kCpu).data<int64_t>()[0]),
                OnHost(x.Slice(first, first + bytes)))
          << bytes;
    }
  }
}

}  // namespace
}  // namespace lacuna
