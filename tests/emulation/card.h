// A card in one thread of the host: the threads of a cluster are fibers that run until they wait.
//
// What it is for: the kernels of core/, nsa/ and moe/ for Hopper run here without a card, so that
// every machine that builds Lacuna tests their logic: which bytes a barrier counts, which stage is
// free, which row and column a register holds, who waits for whom. A deadlock ends the test, shared
// memory starts as NaNs, copies land at random times, warps take random turns. It says nothing of
// speed, nor of what real hardware orders less strictly than this does.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

namespace lacuna::emulation {

struct Dim3 {
  unsigned x = 0, y = 0, z = 0;
};
struct Thread {
  Dim3 thread_index, block_index, block_size, grid;
  unsigned rank = 0;  // of the block in its cluster
};
// The thread that runs.
const Thread& ThisThread();

struct LaunchShape {
  unsigned blocks, cluster, threads;    // of the grid along x, clusters of these; of a block
  unsigned blocks_y = 1, blocks_z = 1;  // of the grid
};
// Runs `kernel` in every thread, cluster after cluster. seed: of the turns and of the copies' times.
// Throws std::runtime_error where all threads wait for ever.
void Run(const LaunchShape& shape, unsigned seed, const std::function<void()>& kernel);

// --- For the emulated headers. ---

// Until `ready`; the other threads run meanwhile.
void WaitUntil(const std::function<bool()>& ready);
// Now and then a while, most often not at all.
void WaitAtRandom();
void SyncBlock();
void SyncWarp();
void SyncNamed(int id, int threads);
void ArriveCluster();
void WaitCluster();
void SyncWarpgroup();

// Values of 8 bytes at most, of all lanes of the warp.
std::array<uint64_t, 32> GatherBits(uint64_t value);
template <class T>
std::array<T, 32> Gather(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  const auto all = GatherBits(bits);
  std::array<T, 32> values;
  for (int i = 0; i < 32; ++i) std::memcpy(&values[i], &all[i], sizeof value);
  return values;
}

// Shared memory of block `rank` of the cluster; addresses are those of SharedAddress.
inline constexpr uint32_t kSharedBytes = 227 * 1024;
char* Shared(uint32_t address, unsigned rank);
inline char* Shared(uint32_t address) {
  return Shared(address, ThisThread().rank);
}
char* DynamicShared();
uint32_t AddressOf(const void* shared);

void InitBarrier(uint32_t barrier, int arrivals);
void Arrive(uint32_t barrier, unsigned rank, int64_t expect_bytes);
void Landed(uint32_t barrier, unsigned rank, int64_t bytes);
void WaitBarrier(uint32_t barrier, uint32_t parity);

// Does it at some later time.
void Later(std::function<void()> copy);
// Copies of this thread in groups, as cp.async makes them: they land when they are waited for.
struct AsyncCopies {
  std::vector<std::pair<int, std::function<void()>>> started;  // with their groups
  int committed = 0;
};
AsyncCopies& MyCopies();
// What this thread sent and the copy engine has not read yet.
int& PendingSends();

}  // namespace lacuna::emulation
