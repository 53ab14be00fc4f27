// Descriptions of tensors for Hopper's copy engine, made on the host and passed to kernels by value
// as __grid_constant__ parameters. Boxes with the 128-byte swizzle; what a box has outside the tensor
// is read as zeros and not written.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <initializer_list>

namespace lacuna::cuda {

struct TensorMapDim {
  int64_t size;
  int64_t stride;  // in elements; of the first dimension 1. In bytes a multiple of 16
  int box;         // at most 256; of the first dimension at most 128 bytes
};

// data: bf16, a multiple of 16 bytes. dims: 2 to 5, the contiguous one first. Throws where the driver
// refuses.
CUtensorMap MakeTensorMap(const void* data, std::initializer_list<TensorMapDim> dims);
// The same of f32.
CUtensorMap MakeFloatTensorMap(const void* data, std::initializer_list<TensorMapDim> dims);

// True where a kernel that needs sm_90a can run: a Hopper card, and code for it in this program.
bool HasHopperCode(const void* kernel, int compute_major);

}  // namespace lacuna::cuda
