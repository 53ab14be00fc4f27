#include "core/host_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/out_of_memory.h"
#include "core/parallel.h"
#include "core/status.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/memory.h"
#endif

namespace lacuna {
namespace {

constexpr int64_t kLargePage = int64_t{2} << 20;

// The number behind `key` in lines of "key number ..."; of the whole file where `key` is empty. -1
// where there is none, as for "max".
int64_t NumberIn(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name, rest;
  int64_t number = -1;
  if (key.empty()) return file >> number ? number : -1;
  for (; file >> name; std::getline(file, rest)) {
    if (name == key) return file >> number ? number : -1;
  }
  return -1;
}

// Frees what was mapped, once no card copies into it any more.
struct Unmap {
  void* mapped;
  size_t mapped_bytes;
  bool pinned;

  void operator()(void* data) const {
#ifdef LACUNA_WITH_CUDA
    if (pinned) cuda::UnpinHostMemory(data);
#endif
    static_cast<void>(data);
    ::munmap(mapped, mapped_bytes);
  }
};

}  // namespace

HostMemory MemoryOfHost(const std::string& root) {
  const std::string meminfo = root + "/proc/meminfo", group = root + "/sys/fs/cgroup/memory.";
  const int64_t total = NumberIn(meminfo, "MemTotal:"),
                available = NumberIn(meminfo, "MemAvailable:");
  HostMemory memory{std::max<int64_t>(total, 0) << 10, std::max<int64_t>(available, 0) << 10};
  const int64_t limit = NumberIn(group + "max", ""), used = NumberIn(group + "current", "");
  if (limit < 0 || used < 0) return memory;
  // The cache of files that nobody has used lately is given up first.
  const int64_t reclaimable = std::max<int64_t>(NumberIn(group + "stat", "inactive_file"), 0);
  memory.total = std::min(memory.total, limit);
  memory.available = std::clamp<int64_t>(limit - used + reclaimable, 0, memory.available);
  return memory;
}

HostMemory MemoryOfHost() {
  return MemoryOfHost("");
}

absl::StatusOr<std::shared_ptr<void>> AllocateHostMemory(int64_t bytes, Device device) {
  const auto failure = [&](const char* verb, const std::string& why) {
    return MakeError(ExitCode::kHardware, fmt::format("cannot {} {} of host memory: {}", verb,
                                                      FormatMemory(bytes), why));
  };
  const auto mapped_bytes = static_cast<size_t>(bytes + kLargePage);
  void* mapped =
      ::mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return failure("map", std::strerror(errno));
  void* data = mapped;
  size_t room = mapped_bytes;
  std::align(static_cast<size_t>(kLargePage), static_cast<size_t>(bytes), data, room);
  // Advice: without large pages it is slower to lock, no more.
  static_cast<void>(::madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE));
  constexpr int64_t kChunk = 16 * kLargePage, kPage = 4096;
  ParallelForChunks(bytes, kChunk, 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kPage) static_cast<volatile char*>(data)[at] = 0;
  });
  Unmap unmap{mapped, mapped_bytes, false};
#ifdef LACUNA_WITH_CUDA
  if (device.type == DeviceType::kCuda) {
    if (const std::string why = cuda::PinHostMemory(data, bytes, device); !why.empty()) {
      unmap(data);
      return failure("pin", why);
    }
    unmap.pinned = true;
  }
#else
  LACUNA_CHECK(device == kCpu, "this build has no CUDA backend (configure with -DLACUNA_CUDA=ON)");
#endif
  return std::shared_ptr<void>(data, unmap);
}

}  // namespace lacuna
