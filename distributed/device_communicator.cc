#include "distributed/device_communicator.h"

#include <cstdlib>
#include <string_view>
#include <utility>

#include "distributed/checked_communicator.h"
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

namespace {

std::shared_ptr<Communicator> WithDevice(std::shared_ptr<Communicator> host, Device device) {
  if (device == kCpu) return host;
#ifdef LACUNA_WITH_NCCL
  if (UsesNccl()) return MakeNcclCommunicator(std::move(host), device);
#endif
#ifdef LACUNA_WITH_CUDA
  return MakeStagedCommunicator(std::move(host), MakeCudaStagedCopies(device));
#else
  return host;
#endif
}

}  // namespace

std::shared_ptr<Communicator> ForDevice(std::shared_ptr<Communicator> host, Device device) {
  if (host->size() == 1) return host;
  std::shared_ptr<Communicator> comm = WithDevice(std::move(host), device);
  return ChecksCollectives() ? MakeCheckedCommunicator(std::move(comm)) : comm;
}

}  // namespace lacuna
