#include "distributed/device_communicator.h"

#include <cstdlib>
#include <string_view>

#include "distributed/nccl_communicator.h"
#include "distributed/staged_communicator.h"

namespace lacuna {

bool UsesNccl() {
#ifdef LACUNA_WITH_NCCL
  const char* value = std::getenv("LACUNA_GPU_COLLECTIVES");
  return value == nullptr || std::string_view(value) != "staged";
#else
  return false;
#endif
}

std::shared_ptr<Communicator> ForDevice(std::shared_ptr<Communicator> host, Device device) {
  if (device == kCpu || host->size() == 1) return host;
#ifdef LACUNA_WITH_NCCL
  if (UsesNccl()) return MakeNcclCommunicator(std::move(host), device);
#endif
#ifdef LACUNA_WITH_CUDA
  return MakeStagedCommunicator(std::move(host), MakeCudaStagedCopies(device));
#else
  return host;
#endif
}

}  // namespace lacuna
