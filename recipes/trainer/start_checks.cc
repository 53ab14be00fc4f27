#include "recipes/trainer/start_checks.h"

#include "core/allocator.h"
#include "core/status.h"
#include "core/stream.h"
#include "recipes/plan/rank_shares.h"
#include "recipes/trainer/device.h"
#include "recipes/trainer/memory_check.h"
#include "recipes/trainer/preflight.h"

namespace lacuna {

namespace {

absl::Status Prepare(const Recipe& recipe, int64_t ranks, Device device) {
  SetMemoryLimit(device, static_cast<int64_t>(recipe.train.memory_limit_gib * (1 << 30)));
  LACUNA_RETURN_IF_ERROR(CheckDeterminism(recipe, LongestDeterministicDocument(recipe, device)));
  if (device.type == DeviceType::kCpu) return absl::OkStatus();
  const CudaDeviceInfo info = InfoOfCudaDevice(device);
  return CheckMemory(recipe, ranks, info.name, info.memory_bytes);
}

}  // namespace

absl::StatusOr<Device> PrepareDevice(const Recipe& recipe, Communicator& comm) {
  LACUNA_RETURN_IF_ERROR(CheckMesh(recipe, comm.size()));
  LACUNA_ASSIGN_OR_RETURN(const Device device, ChooseDevice(recipe, comm));
  LACUNA_RETURN_IF_ERROR(AgreeOnStatus(comm, Prepare(recipe, comm.size(), device),
                                       AfterSeconds(comm.timeout_seconds())));
  LACUNA_RETURN_IF_ERROR(Preflight(recipe, comm, device));
  return device;
}

}  // namespace lacuna
