#include "recipes/trainer/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "core/ops/attention.h"
#include "core/parallel.h"
#include "core/status.h"
#include "core/stream.h"
#include "distributed/device_assignment.h"

namespace lacuna {
namespace {

// What keeps the recipe off a CUDA card; empty where nothing does.
std::string WhyNotCuda(const Recipe& recipe) {
  if (NumCudaDevices() == 0) return "no CUDA card is seen by this build and driver";
  if (recipe.train.dtype == DType::kF64)
    return "train.dtype = f64 has no CUDA kernels, f32 and bf16 have";
  const int64_t widest = std::max(recipe.model.head_dim_qk, recipe.model.head_dim_v);
  if (widest > kMaxCudaHeadDim) {
    return fmt::format("model.head_dim_qk = {}, model.head_dim_v = {}: at most {} on CUDA",
                       recipe.model.head_dim_qk, recipe.model.head_dim_v, kMaxCudaHeadDim);
  }
  if (const CudaDeviceInfo info = InfoOfCudaDevice(CudaDevice()); info.major < 8) {
    return fmt::format("{} has compute capability {}.{}; 8.0 and later are supported", info.name,
                       info.major, info.minor);
  }
  return "";
}

absl::StatusOr<int> CardOfRank(const Recipe& recipe, Communicator& comm) {
  const std::string why_not = WhyNotCuda(recipe);
  LACUNA_RETURN_IF_ERROR(
      AgreeOnStatus(comm, why_not.empty() ? absl::OkStatus() : ConfigError("{}", why_not),
                    AfterSeconds(comm.timeout_seconds())));
  return AssignDevice(comm);
}

absl::StatusOr<Device> Choose(DeviceChoice choice, const Recipe& recipe, Communicator& comm,
                              std::string_view asked) {
  if (choice == DeviceChoice::kCpu) return kCpu;
  const absl::StatusOr<int> card = CardOfRank(recipe, comm);
  if (card.ok()) return CudaDevice(*card);
  if (choice == DeviceChoice::kAuto) return kCpu;
  return ConfigError("{}: {}", asked, Message(card.status()));
}

}  // namespace

absl::StatusOr<Device> ChooseDevice(const Recipe& recipe, Communicator& comm) {
  return Choose(recipe.train.device, recipe, comm, "train.device = cuda");
}

absl::StatusOr<Device> ChooseDevice(DeviceChoice choice, const Recipe& recipe,
                                    std::string_view asked) {
  return Choose(choice, recipe, *MakeSelfCommunicator(), asked);
}

int64_t LongestDeterministicDocument(const Recipe& recipe, Device device) {
  // The kernels of sparse attention are deterministic at any length.
  if (recipe.uses_nsa()) return std::numeric_limits<int64_t>::max();
  const ModelConfig& model = recipe.model;
  return ops::LongestDeterministicDocument({.dtype = recipe.train.dtype,
                                            .heads = model.num_heads,
                                            .groups = model.num_groups,
                                            .dk = model.head_dim_qk,
                                            .dv = model.head_dim_v},
                                           device);
}

absl::Status CheckDeterminism(const Recipe& recipe, int64_t longest) {
  if (!recipe.train.deterministic || recipe.train.sequence_length <= longest)
    return absl::OkStatus();
  return ConfigError(
      "train.deterministic = true: train.sequence_length = {}: full attention through cuDNN is "
      "deterministic for documents of at most {} tokens with {} heads in {} groups; "
      "train.deterministic = false accepts gradients whose last bits differ from run to run",
      recipe.train.sequence_length, longest, recipe.model.num_heads, recipe.model.num_groups);
}

std::string Describe(Device device) {
  if (device == kCpu) {
    const int threads = NumThreads();
    return fmt::format("CPU, {} thread{}", threads, threads == 1 ? "" : "s");
  }
  const CudaDeviceInfo info = InfoOfCudaDevice(device);
  return fmt::format("{} (sm_{}{}, {:.1f} GiB)", info.name, info.major, info.minor,
                     static_cast<double>(info.memory_bytes) / (1 << 30));
}

}  // namespace lacuna
