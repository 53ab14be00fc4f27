#include "core/cuda/tensor_map.h"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <array>

#include "core/cuda/check.h"
#include "core/error.h"

namespace lacuna::cuda {
namespace {

// Asked for at run time, so that programs start where there is no driver.
PFN_cuTensorMapEncodeTiled_v12000 Encoder() {
  static const auto encoder = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    LACUNA_CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                       cudaEnableDefault, &found));
    LACUNA_CHECK(found == cudaDriverEntryPointSuccess,
                 "the driver has no cuTensorMapEncodeTiled (CUDA 12.0)");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
  }();
  return encoder;
}

CUtensorMap Encode(CUtensorMapDataType type, int64_t element_bytes, const void* data,
                   std::initializer_list<TensorMapDim> dims) {
  std::array<cuuint64_t, 5> sizes{}, strides{};
  std::array<cuuint32_t, 5> boxes{}, steps{};
  size_t rank = 0;
  for (const TensorMapDim& dim : dims) {
    sizes.at(rank) = static_cast<cuuint64_t>(dim.size);
    boxes.at(rank) = static_cast<cuuint32_t>(dim.box);
    steps.at(rank) = 1;
    if (rank > 0) strides.at(rank - 1) = static_cast<cuuint64_t>(dim.stride * element_bytes);
    ++rank;
  }
  CUtensorMap map;
  const CUresult result =
      Encoder()(&map, type, static_cast<cuuint32_t>(rank), const_cast<void*>(data), sizes.data(),
                strides.data(), boxes.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  LACUNA_CHECK(result == CUDA_SUCCESS,
               "cuTensorMapEncodeTiled refused a tensor of {} x {} x {} ..., "
               "box {} x {} x {} ...: error {}",
               sizes[0], sizes[1], sizes[2], boxes[0], boxes[1], boxes[2],
               static_cast<int>(result));
  return map;
}

}  // namespace

CUtensorMap MakeTensorMap(const void* data, std::initializer_list<TensorMapDim> dims) {
  return Encode(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, data, dims);
}
CUtensorMap MakeFloatTensorMap(const void* data, std::initializer_list<TensorMapDim> dims) {
  return Encode(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, data, dims);
}

bool HasHopperCode(const void* kernel, int compute_major) {
  if (compute_major != 9) return false;
  cudaFuncAttributes attributes;
  LACUNA_CUDA_CHECK(cudaFuncGetAttributes(&attributes, kernel));
  return attributes.ptxVersion == 90;
}

}  // namespace lacuna::cuda
