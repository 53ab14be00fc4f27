#include "core/cuda/card_facts.h"

#include "core/card_facts.h"
#include "core/cuda/check.h"
#include "core/cuda/runtime.h"

namespace lacuna::cuda {

void GetCardFacts(Device device, CardFacts* facts) {
  ComputeStream(device);  // the device's context is this thread's
  LACUNA_CUDA_CHECK(cudaDriverGetVersion(&facts->driver));
  LACUNA_CUDA_CHECK(cudaRuntimeGetVersion(&facts->runtime));
  size_t free = 0, total = 0;
  LACUNA_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  facts->free_bytes = static_cast<int64_t>(free);
}

bool ReachesPeer(int device, int other) {
  int reaches = 0;
  LACUNA_CUDA_CHECK(cudaDeviceCanAccessPeer(&reaches, device, other));
  return reaches != 0;
}

}  // namespace lacuna::cuda
