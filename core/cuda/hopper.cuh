// What sm_90a adds, in inline PTX: barriers in shared memory that count bytes, the copy engine
// (TMA), clusters, registers moved between warpgroups. Products are in core/cuda/wgmma.cuh.
//
// Addresses in shared memory are 32 bits wide (SharedAddress). The tensor cores and the copy engine
// read and write shared memory through the asynchronous proxy: ordinary stores that they are to see
// need FenceAsyncProxy in the storing thread and a barrier behind it.
#pragma once

#include <cuda.h>

#include "core/cuda/tensor_core.cuh"

// Bodies of kernels that need sm_90a are empty in code for other cards; the host never starts them
// there (HasHopperCode).
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define LACUNA_HOPPER_CODE 1
#define LACUNA_CLUSTER(blocks) __cluster_dims__(blocks)
#else
#define LACUNA_HOPPER_CODE 0
#define LACUNA_CLUSTER(blocks)
#endif

namespace lacuna::cuda {

inline constexpr int kWarpgroup = 128;

// A value that all lanes of the warp have, told to the compiler: it then stands in a uniform
// register, where the descriptions of operands have to be. All lanes.
__device__ inline int Uniform(int value) {
  return __shfl_sync(0xFFFFFFFFu, value, 0);
}

// The block's dynamic shared memory.
__device__ inline char* DynamicShared() {
  extern __shared__ char dynamic_shared[];
  return dynamic_shared;
}

// Of a kernel that LaunchEarly started (core/cuda/early_launch.cuh): until the kernels before it are done and
// what they wrote is there. All threads.
__device__ inline void WaitForPrevious() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

// --- Barriers: 8 bytes in shared memory; a phase ends when all arrivals and all bytes are in. ---

__device__ inline void InitBarrier(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// After the inits, before any other thread of the cluster or the copy engine uses them.
__device__ inline void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
// Arrives at the barrier that lies at the same place in block `rank` of the cluster. Orders nothing
// between blocks but reads of operands that are already done: a release at the cluster's scope would
// wait for all of the thread's stores.
__device__ inline void ArriveAt(uint32_t barrier, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(barrier),
      "r"(rank)
      : "memory");
}
__device__ inline void ArriveExpecting(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Until the phase of that parity has ended.
__device__ inline void WaitBarrier(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
// Barrier `id` (1 to 15) of the block among `threads` threads.
__device__ inline void SyncNamed(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// --- The copy engine. Coordinates count elements, the contiguous dimension first. ---

__device__ inline void CopyTile(uint32_t to, const CUtensorMap& map, uint32_t barrier, int c0,
                                int c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1)
      : "memory");
}
__device__ inline void CopyTile(uint32_t to, const CUtensorMap& map, uint32_t barrier, int c0,
                                int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
__device__ inline void CopyTile(uint32_t to, const CUtensorMap& map, uint32_t barrier, int c0,
                                int c1, int c2, int c3, int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}
// Plain bytes; both addresses and the size are multiples of 16.
__device__ inline void CopyBytes(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}
// To L2 only; plain bytes as above.
__device__ inline void PrefetchBytes(const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}
__device__ inline void PrefetchTile(const CUtensorMap& map, int c0, int c1, int c2) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];" ::"l"(&map),
               "r"(c0), "r"(c1), "r"(c2)
               : "memory");
}
// To the same place in every block of the cluster whose bit is set in `blocks`; each block's
// barrier at the same place counts the bytes.
__device__ inline void CopyTileToCluster(uint32_t to, const CUtensorMap& map, uint32_t barrier,
                                         uint16_t blocks, int c0, int c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::"r"(to),
      "l"(&map), "r"(barrier), "h"(blocks), "r"(c0), "r"(c1)
      : "memory");
}
// From shared memory to the tensor, set or added. Sent tiles form groups, a thread its own.
template <bool kAdd>
__device__ __forceinline__ void SendTile(const CUtensorMap& map, uint32_t from, int c0, int c1,
                                         int c2) {
  if constexpr (kAdd) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.tile.bulk_group "
        "[%0, {%2, %3, %4}], [%1];" ::"l"(&map),
        "r"(from), "r"(c0), "r"(c1), "r"(c2)
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
            &map),
        "r"(from), "r"(c0), "r"(c1), "r"(c2)
        : "memory");
  }
}
__device__ inline void CommitSent() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// Until all that this thread sent has been read from shared memory.
__device__ inline void WaitSentRead() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
__device__ inline void FenceAsyncProxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// --- Clusters. ---

__device__ inline uint32_t ClusterRank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// All threads of the cluster; between the two a thread may do anything but meet it again.
__device__ inline void ArriveCluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ inline void WaitCluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ inline void SyncCluster() {
  ArriveCluster();
  WaitCluster();
}

// 4, 8 and 16 bytes at the same place in block `rank`'s shared memory. What was written is there after
// SyncCluster, and stays until the writer goes on from the next one.
__device__ inline uint32_t AddressInBlock(uint32_t shared, uint32_t rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared), "r"(rank));
  return address;
}
__device__ inline float LoadFromBlock4(uint32_t shared, uint32_t rank) {
  float v;
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(AddressInBlock(shared, rank)));
  return v;
}
__device__ inline float2 LoadFromBlock8(uint32_t shared, uint32_t rank) {
  float2 v;
  asm volatile("ld.shared::cluster.v2.f32 {%0, %1}, [%2];"
               : "=f"(v.x), "=f"(v.y)
               : "r"(AddressInBlock(shared, rank)));
  return v;
}
__device__ inline uint4 LoadFromBlock16(uint32_t shared, uint32_t rank) {
  uint4 v;
  asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(AddressInBlock(shared, rank)));
  return v;
}
__device__ inline void StoreToBlock4(uint32_t shared, uint32_t rank, uint32_t value) {
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(AddressInBlock(shared, rank)), "r"(value)
               : "memory");
}
__device__ inline void StoreToBlock8(uint32_t shared, uint32_t rank, float2 value) {
  asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" ::"r"(AddressInBlock(shared, rank)),
               "f"(value.x), "f"(value.y)
               : "memory");
}

// --- Registers a thread, for a whole warpgroup; multiples of 8. ---

template <int kRegisters>
__device__ void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// --- Fragments to shared memory: the inverse of LoadMatrices<true>. ---

// Four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8 as it is to stand in
// memory. Register i of a lane: rows 2t and 2t + 1 of column g.
__device__ inline void StoreMatricesTransposed(uint32_t shared, uint32_t r0, uint32_t r1,
                                               uint32_t r2, uint32_t r3) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared),
      "r"(r0), "r"(r1), "r"(r2), "r"(r3)
      : "memory");
}

}  // namespace lacuna::cuda
