// A kernel that starts while the one before it in the stream still runs, so that its launch and what it
// reads first take no time of their own. Compute capability 9 and later.
#pragma once

#include "core/cuda/graph.h"
#include "core/cuda/launch.cuh"

namespace lacuna::cuda {

// Of the kernel before: the next one may start when all of its blocks have called this or ended.
__device__ inline void LetNextStart() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// LaunchGrid for the next one. Behind WaitForPrevious (core/cuda/hopper.cuh), which all of its threads
// call, it finds what the kernel before wrote; ahead of it only what is older.
template <class... Parameters, class... Args>
void LaunchEarly(void (*kernel)(Parameters...), dim3 grid, dim3 block, int64_t shared,
                 Stream stream, Args... args) {
  // In a graph it starts as others do: what comes before may be no kernel.
  if (Capturing()) return LaunchGrid(kernel, grid, block, shared, stream, args...);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared > 48 * 1024) {
    LACUNA_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(shared)));
  }
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = static_cast<size_t>(shared);
  config.stream = static_cast<cudaStream_t>(stream.handle);
  config.attrs = &early;
  config.numAttrs = 1;
  LACUNA_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, args...));
}

}  // namespace lacuna::cuda
