#include "core/card_facts.h"

#include <exception>

#include "core/ops/elementwise.h"
#include "core/stream.h"
#include "core/tensor.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/card_facts.h"
#endif

namespace lacuna {

#ifdef LACUNA_WITH_CUDA

CardFacts FactsOfCard(Device device) {
  CardFacts facts;
  cuda::GetCardFacts(device, &facts);
  for (int other = 0; other < NumCudaDevices(); ++other) {
    if (other == device.index) continue;
    facts.peers[InfoOfCudaDevice(CudaDevice(other)).id] = cuda::ReachesPeer(device.index, other);
  }
  return facts;
}
std::string ArchitecturesOfBinary() {
  return LACUNA_CUDA_ARCHITECTURES;
}

#else

CardFacts FactsOfCard(Device) {
  return {};
}
std::string ArchitecturesOfBinary() {
  return "";
}

#endif

std::string TryKernel(Device device) {
  try {
    Tensor one = Tensor::Empty({1}, DType::kF32, device);
    ops::Fill({.y = one.MutableRef(), .value = 1.0}, ComputeStream(device));
    return one.ToDoubles()[0] == 1.0 ? "" : "a kernel left its output unwritten";
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return text.substr(0, text.find('\n'));
  }
}

}  // namespace lacuna
