#include "tests/emulation/card.h"

#include <ucontext.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace lacuna::emulation {
namespace {

constexpr unsigned kWarp = 32, kStackBytes = 1 << 17, kMaxThreads = 1024;
// Dynamic shared memory begins at a multiple of 16 only, as on a card.
constexpr uint32_t kBase = 4096 + 16;
constexpr int64_t kMaxIdleRounds = 3'000'000;

struct Meeting {
  int count = 0;
  unsigned generation = 0;
};
struct Barrier {
  int arrivals = 0, pending = 0;
  int64_t bytes = 0;
  unsigned phase = 0;
};
struct Warp {
  Meeting meeting;
  std::array<uint64_t, kWarp> values{};
};
struct Block {
  std::unique_ptr<char[]> memory = std::make_unique<char[]>(kSharedBytes + 64);
  std::map<uint32_t, Barrier> barriers;
  Meeting all, named[16], warpgroups[8];
  std::vector<Warp> warps;
};
struct Fiber {
  Thread thread;
  ucontext_t context{};
  std::vector<char> stack;
  bool done = false;
  int pending_sends = 0;
  unsigned arrived = 0;  // at the cluster's barrier: the generation it had
  AsyncCopies copies;
};

struct Card {
  LaunchShape shape{};
  std::mt19937 random;
  std::vector<Block> blocks;
  std::vector<Fiber> fibers;
  std::vector<std::pair<int, std::function<void()>>> copies;  // with the rounds until they land
  Meeting cluster;
  Fiber* now = nullptr;
  ucontext_t scheduler{};
  const std::function<void()>* kernel = nullptr;
  std::string error;
};
Card* card = nullptr;

Block& ThisBlock() {
  return card->blocks[ThisThread().rank];
}
void Yield() {
  Fiber& fiber = *card->now;
  swapcontext(&fiber.context, &card->scheduler);
  card->now = &fiber;
}
// The generation that ends when all have arrived.
unsigned Arrive(Meeting& meeting, int threads) {
  const unsigned generation = meeting.generation;
  if (++meeting.count == threads) {
    meeting.count = 0;
    ++meeting.generation;
  }
  return generation;
}
void Wait(const Meeting& meeting, unsigned generation) {
  while (meeting.generation == generation) Yield();
}
void Meet(Meeting& meeting, int threads) {
  Wait(meeting, Arrive(meeting, threads));
}
Barrier& BarrierAt(uint32_t address, unsigned rank) {
  auto& barriers = card->blocks.at(rank).barriers;
  const auto found = barriers.find(address);
  if (found == barriers.end()) throw std::runtime_error("no barrier at " + std::to_string(address));
  return found->second;
}
void Settle(Barrier& b) {
  if (b.pending != 0 || b.bytes != 0) return;
  b.pending = b.arrivals;
  ++b.phase;
}
void RunFiber() {
  Fiber& fiber = *card->now;
  try {
    (*card->kernel)();
  } catch (const std::exception& e) {
    card->error = e.what();
  }
  fiber.done = true;
  swapcontext(&fiber.context, &card->scheduler);
}

void RunCluster(unsigned first_block, unsigned y, unsigned z) {
  const LaunchShape& shape = card->shape;
  const unsigned threads = shape.cluster * shape.threads;
  if (threads > kMaxThreads) throw std::runtime_error("too many threads");
  card->blocks.clear();
  card->blocks.resize(shape.cluster);
  for (Block& b : card->blocks) {
    std::memset(b.memory.get(), 0xFF, kSharedBytes + 64);
    b.warps.resize((shape.threads + kWarp - 1) / kWarp);
  }
  card->copies.clear();
  card->cluster = {};
  card->fibers.resize(threads);
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& f = card->fibers[i];
    const unsigned rank = i / shape.threads;
    f.thread = {.thread_index = {i % shape.threads},
                .block_index = {first_block + rank, y, z},
                .block_size = {shape.threads, 1, 1},
                .grid = {shape.blocks, shape.blocks_y, shape.blocks_z},
                .rank = rank};
    f.done = false;
    f.pending_sends = 0;
    f.copies = {};
    f.stack.resize(kStackBytes);
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = nullptr;
    makecontext(&f.context, RunFiber, 0);
  }
  unsigned left = threads;
  for (int64_t idle = 0; left > 0 || !card->copies.empty(); ++idle) {
    if (idle > kMaxIdleRounds) throw std::runtime_error("all threads wait");
    for (unsigned warp = 0; warp < (threads + kWarp - 1) / kWarp; ++warp) {
      if (card->random() % 4 == 0) continue;
      for (unsigned i = warp * kWarp; i < std::min(threads, (warp + 1) * kWarp); ++i) {
        Fiber& f = card->fibers[i];
        if (f.done) continue;
        card->now = &f;
        swapcontext(&card->scheduler, &f.context);
        if (!card->error.empty()) throw std::runtime_error(card->error);
        if (!f.done) continue;
        --left;
        idle = 0;
      }
    }
    decltype(card->copies) due, rest;
    for (auto& copy : card->copies) (copy.first-- > 0 ? rest : due).push_back(copy);
    card->copies = std::move(rest);
    for (const auto& copy : due) copy.second();
    if (!due.empty()) idle = 0;
  }
}

}  // namespace

const Thread& ThisThread() {
  return card->now->thread;
}

void Run(const LaunchShape& shape, unsigned seed, const std::function<void()>& kernel) {
  Card running;
  running.shape = shape;
  running.random.seed(seed);
  running.kernel = &kernel;
  card = &running;
  for (unsigned z = 0; z < shape.blocks_z; ++z) {
    for (unsigned y = 0; y < shape.blocks_y; ++y) {
      for (unsigned x = 0; x < shape.blocks; x += shape.cluster) RunCluster(x, y, z);
    }
  }
  card = nullptr;
}

void WaitUntil(const std::function<bool()>& ready) {
  while (!ready()) Yield();
}
void WaitAtRandom() {
  if (card->random() % 512 != 0) return;
  for (unsigned rounds = card->random() % 48; rounds > 0; --rounds) Yield();
}
void SyncBlock() {
  Meet(ThisBlock().all, static_cast<int>(card->shape.threads));
}
void SyncWarp() {
  Meet(ThisBlock().warps[ThisThread().thread_index.x / kWarp].meeting, kWarp);
}
void SyncNamed(int id, int threads) {
  Meet(ThisBlock().named[id], threads);
}
void ArriveCluster() {
  card->now->arrived =
      Arrive(card->cluster, static_cast<int>(card->shape.cluster * card->shape.threads));
}
void WaitCluster() {
  Wait(card->cluster, card->now->arrived);
}
void SyncWarpgroup() {
  Meet(ThisBlock().warpgroups[ThisThread().thread_index.x / 128], 128);
}
std::array<uint64_t, 32> GatherBits(uint64_t value) {
  Warp& warp = ThisBlock().warps[ThisThread().thread_index.x / kWarp];
  warp.values[ThisThread().thread_index.x % kWarp] = value;
  SyncWarp();
  const auto all = warp.values;
  SyncWarp();
  return all;
}

char* Shared(uint32_t address, unsigned rank) {
  if (address < kBase || address >= kBase + kSharedBytes)
    throw std::runtime_error("outside of shared memory: " + std::to_string(address));
  return card->blocks.at(rank).memory.get() + (address - kBase);
}
char* DynamicShared() {
  return ThisBlock().memory.get();
}
uint32_t AddressOf(const void* shared) {
  return kBase + static_cast<uint32_t>(static_cast<const char*>(shared) - DynamicShared());
}

void InitBarrier(uint32_t barrier, int arrivals) {
  if (barrier % 8 != 0) throw std::runtime_error("a barrier is not aligned");
  ThisBlock().barriers[barrier] = {.arrivals = arrivals, .pending = arrivals};
}
void Arrive(uint32_t barrier, unsigned rank, int64_t expect_bytes) {
  Barrier& b = BarrierAt(barrier, rank);
  b.bytes += expect_bytes;
  if (--b.pending < 0) throw std::runtime_error("more arrivals than a barrier counts");
  Settle(b);
}
void Landed(uint32_t barrier, unsigned rank, int64_t bytes) {
  Barrier& b = BarrierAt(barrier, rank);
  b.bytes -= bytes;
  Settle(b);
}
void WaitBarrier(uint32_t barrier, uint32_t parity) {
  const Barrier& b = BarrierAt(barrier, ThisThread().rank);
  while (b.phase % 2 == parity) Yield();
}
void Later(std::function<void()> copy) {
  const unsigned rounds = card->random() % (card->random() % 16 == 0 ? 48 : 3);
  card->copies.emplace_back(static_cast<int>(rounds), std::move(copy));
}
AsyncCopies& MyCopies() {
  return card->now->copies;
}
int& PendingSends() {
  return card->now->pending_sends;
}

}  // namespace lacuna::emulation
