#include "core/content_hash.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/kernel.h"

namespace lacuna {
namespace {

using Function = void (*)(const void*, int64_t, uint64_t*, Stream);
constexpr Function kOnCuda = LACUNA_IF_CUDA(cuda::AddContentHash);

uint64_t HashOf(const char* bytes, int64_t count) {
  uint64_t sum = 0;
  for (int64_t at = 0; at < count; at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + at, static_cast<size_t>(std::min<int64_t>(8, count - at)));
    sum += MixWord(word, static_cast<uint64_t>(at / 8));
  }
  return sum;
}

}  // namespace

void AddContentHash(const TensorRef& x, uint64_t* sum, Stream stream) {
  const int64_t bytes = x.numel() * SizeOf(x.dtype);
  if (stream.device.type == DeviceType::kCpu) {
    *sum += HashOf(x.As<char>(), bytes);
    return;
  }
  LACUNA_CHECK(kOnCuda != nullptr, "content_hash: no CUDA kernel in this build");
  kOnCuda(x.data, bytes, sum, stream);
}

}  // namespace lacuna
