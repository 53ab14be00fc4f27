// core/cuda/hopper.cuh for the emulation: the same names and contracts.
#pragma once

#include <cuda.h>

#include "core/cuda/tensor_core.cuh"

#define LACUNA_HOPPER_CODE 1
#define LACUNA_CLUSTER(blocks)

namespace lacuna::cuda {

inline constexpr int kWarpgroup = 128;

inline int Uniform(int value) {
  return __shfl_sync(~0u, value, 0);
}
inline char* DynamicShared() {
  return emulation::DynamicShared();
}

inline void InitBarrier(uint32_t barrier, int arrivals) {
  emulation::InitBarrier(barrier, arrivals);
}
inline void FenceBarrierInit() {}
inline void ArriveAt(uint32_t barrier, uint32_t rank) {
  emulation::Arrive(barrier, rank, 0);
}
inline void ArriveExpecting(uint32_t barrier, uint32_t bytes) {
  emulation::Arrive(barrier, emulation::ThisThread().rank, bytes);
}
inline void WaitBarrier(uint32_t barrier, uint32_t parity) {
  emulation::WaitBarrier(barrier, parity);
}
inline void SyncNamed(int id, int threads) {
  emulation::SyncNamed(id, threads);
}

// Of the box at `c`, calls element(offset in the box, offset in the tensor or -1 outside) for each.
template <class Element>
void ForBox(const CUtensorMap& map, const int64_t (&c)[5], Element&& element) {
  int64_t elements = 1;
  for (int d = 0; d < map.rank; ++d) elements *= map.box[d];
  for (int64_t i = 0; i < elements; ++i) {
    int64_t rest = i, at = 0;
    for (int d = 0; d < map.rank; ++d) {
      const int64_t x = c[d] + rest % map.box[d];
      rest /= map.box[d];
      if (x < 0 || x >= map.size[d]) at = -1;
      if (at >= 0) at += x * map.stride[d];
    }
    element(i, at);
  }
}
// The 128-byte swizzle: 16-byte pieces change places by the row of 128 bytes.
inline uint32_t Swizzled(uint32_t address) {
  return address ^ (address >> 7 & 7) << 4;
}
inline void CheckTile(uint32_t address) {
  if (address % 1024 != 0) throw std::runtime_error("a tile is not aligned");
}
inline void StartCopy(uint32_t to, const CUtensorMap& map, uint32_t barrier, uint32_t blocks,
                      std::array<int64_t, 5> c) {
  CheckTile(to);
  emulation::Later([to, map, barrier, blocks, c] {
    const int64_t at[5] = {c[0], c[1], c[2], c[3], c[4]};
    for (uint32_t rank = 0; rank < 32; ++rank) {
      if ((blocks >> rank & 1) == 0) continue;
      int64_t bytes = 0;
      ForBox(map, at, [&](int64_t i, int64_t from) {
        char* const shared =
            emulation::Shared(Swizzled(to + static_cast<uint32_t>(i * map.element_bytes)), rank);
        std::memset(shared, 0, map.element_bytes);
        if (from >= 0) {
          std::memcpy(shared, static_cast<const char*>(map.data) + from * map.element_bytes,
                      map.element_bytes);
        }
        bytes += map.element_bytes;
      });
      emulation::Landed(barrier, rank, bytes);
    }
  });
}
template <class... C>
void CopyTile(uint32_t to, const CUtensorMap& map, uint32_t barrier, C... c) {
  StartCopy(to, map, barrier, 1u << emulation::ThisThread().rank, {c...});
}
inline void CopyTileToCluster(uint32_t to, const CUtensorMap& map, uint32_t barrier,
                              uint16_t blocks, int c0, int c1) {
  StartCopy(to, map, barrier, blocks, {c0, c1});
}
inline void CopyBytes(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  const unsigned rank = emulation::ThisThread().rank;
  if (to % 16 != 0 || bytes % 16 != 0) throw std::runtime_error("bytes are not aligned");
  emulation::Later([=] {
    std::memcpy(emulation::Shared(to, rank), from, bytes);
    emulation::Landed(barrier, rank, bytes);
  });
}
template <class... C>
void PrefetchTile(const CUtensorMap&, C...) {}

template <bool kAdd>
void SendTile(const CUtensorMap& map, uint32_t from, int c0, int c1, int c2) {
  CheckTile(from);
  int& pending = emulation::PendingSends();
  ++pending;
  emulation::Later([=, &pending, rank = emulation::ThisThread().rank] {
    ForBox(map, {c0, c1, c2}, [&](int64_t i, int64_t to) {
      if (to < 0) return;
      float value;
      std::memcpy(&value, emulation::Shared(Swizzled(from + static_cast<uint32_t>(4 * i)), rank),
                  4);
      float& out = static_cast<float*>(map.data)[to];
      out = kAdd ? out + value : value;
    });
    --pending;
  });
}
inline void CommitSent() {}
inline void WaitSentRead() {
  int& pending = emulation::PendingSends();
  emulation::WaitUntil([&] { return pending == 0; });
}
inline void FenceAsyncProxy() {}

inline void WaitForPrevious() {}
// Reads them, so that a place that is not there is found.
inline void PrefetchBytes(const void* from, uint32_t bytes) {
  const auto* const at = static_cast<const volatile char*>(from);
  static_cast<void>(at[0]);
  static_cast<void>(at[bytes - 1]);
}

inline uint32_t ClusterRank() {
  return emulation::ThisThread().rank;
}
inline void ArriveCluster() {
  emulation::ArriveCluster();
}
inline void WaitCluster() {
  emulation::WaitCluster();
}
inline void SyncCluster() {
  ArriveCluster();
  WaitCluster();
}
template <class T>
T LoadFromBlock(uint32_t shared, uint32_t rank) {
  T value;
  std::memcpy(&value, emulation::Shared(shared, rank), sizeof value);
  return value;
}
inline void StoreToBlock4(uint32_t shared, uint32_t rank, uint32_t value) {
  std::memcpy(emulation::Shared(shared, rank), &value, sizeof value);
}
inline void StoreToBlock8(uint32_t shared, uint32_t rank, float2 value) {
  std::memcpy(emulation::Shared(shared, rank), &value, sizeof value);
}
inline float LoadFromBlock4(uint32_t shared, uint32_t rank) {
  return LoadFromBlock<float>(shared, rank);
}
inline float2 LoadFromBlock8(uint32_t shared, uint32_t rank) {
  return LoadFromBlock<float2>(shared, rank);
}
inline uint4 LoadFromBlock16(uint32_t shared, uint32_t rank) {
  return LoadFromBlock<uint4>(shared, rank);
}
template <int kRegisters>
void GiveRegisters() {}
template <int kRegisters>
void TakeRegisters() {}

inline void StoreMatricesTransposed(uint32_t shared, uint32_t r0, uint32_t r1, uint32_t r2,
                                    uint32_t r3) {
  const auto rows = emulation::Gather(shared);
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const uint32_t r[4] = {r0, r1, r2, r3};
  for (int i = 0; i < 4; ++i) {
    for (int half = 0; half < 2; ++half) {
      const auto element = static_cast<uint16_t>(r[i] >> 16 * half);
      std::memcpy(emulation::Shared(rows[8 * i + 2 * t + half] + 2 * g), &element, 2);
    }
  }
  emulation::SyncWarp();
}

}  // namespace lacuna::cuda
