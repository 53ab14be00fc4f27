#include "core/host_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

constexpr int64_t kGib = int64_t{1} << 30;

class Files {
 public:
  void Write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = dir_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  HostMemory Read() const { return MemoryOfHost(dir_.path()); }

 private:
  test::TempDir dir_;
};

TEST(HostMemory, IsTheMachinesOrTheControlGroups) {
  const Files files;
  EXPECT_EQ(files.Read().total, 0);
  files.Write(
      "proc/meminfo",
      "MemTotal:       67108864 kB\nMemFree:         1048576 kB\nMemAvailable:   33554432 kB\n");
  EXPECT_EQ(files.Read().total, 64 * kGib);
  EXPECT_EQ(files.Read().available, 32 * kGib);
  files.Write("sys/fs/cgroup/memory.max", "max\n");
  files.Write("sys/fs/cgroup/memory.current", std::to_string(10 * kGib));
  EXPECT_EQ(files.Read().available, 32 * kGib);
  files.Write("sys/fs/cgroup/memory.max", std::to_string(16 * kGib));
  EXPECT_EQ(files.Read().total, 16 * kGib);
  EXPECT_EQ(files.Read().available, 6 * kGib);
  files.Write("sys/fs/cgroup/memory.stat",
              "anon 1\ninactive_file " + std::to_string(4 * kGib) + "\nactive_file 7\n");
  EXPECT_EQ(files.Read().available, 10 * kGib);
  files.Write("sys/fs/cgroup/memory.max", std::to_string(500 * kGib));
  EXPECT_EQ(files.Read().total, 64 * kGib);
  EXPECT_EQ(files.Read().available, 32 * kGib);
}

TEST(HostMemory, BlocksAreZeroedAndAligned) {
  for (const int64_t bytes : {int64_t{1}, int64_t{5000}, int64_t{100} << 20}) {
    const auto block = AllocateHostMemory(bytes, kCpu);
    ASSERT_TRUE(block.ok()) << block.status();
    char* data = static_cast<char*>(block->get());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 4096, 0u);
    EXPECT_EQ(data[0], 0);
    EXPECT_EQ(data[bytes - 1], 0);
    std::memset(data, 1, static_cast<size_t>(bytes));
  }
}

TEST(HostMemory, MoreThanThereIsIsAnError) {
  const auto block = AllocateHostMemory(int64_t{1} << 60, kCpu);
  EXPECT_EQ(block.status().message().find("cannot map 1024.00 PiB of host memory: "), 0u)
      << block.status();
}

}  // namespace
}  // namespace lacuna
