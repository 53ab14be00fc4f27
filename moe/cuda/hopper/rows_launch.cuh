// Starting the kernels of rows_kernel.cuh.
#pragma once

#include <algorithm>

#include "moe/cuda/hopper/launch.cuh"
#include "moe/cuda/hopper/products.h"
#include "moe/cuda/hopper/rows_kernel.cuh"

namespace lacuna::cuda::hopper {

// The matrices [E, Cout, Cin] as A of y = x w: 64 features, 64 of the depth.
inline CUtensorMap FeatureColumns(const TensorRef& w) {
  const int64_t out = w.dim(1), in = w.dim(2);
  return MakeTensorMap(w.data, {{in, 1, 64}, {out, in, 64}, {w.dim(0), out * in, 1}});
}
template <class Epilogue>
RowsParams<Epilogue> Params(const TensorRef& x, const TensorRef& w, const ExpertOffsets& offsets,
                            int64_t features) {
  RowsParams<Epilogue> p = {};
  p.delays = RandomDelays();
  p.x = RowsMap(x, kRowBox);
  p.offsets = offsets;
  p.rows = x.dim(0);
  p.experts = static_cast<int>(w.dim(0));
  p.slices = static_cast<int>((x.dim(1) + kDepth - 1) / kDepth);
  p.pace = std::max(1, p.slices / (kN / Epilogue::kRows + Epilogue::kFetches));
  p.features = static_cast<int>(features);
  p.feature_pairs = static_cast<int>((features + kCluster * kM - 1) / (kCluster * kM));
  return p;
}

template <class Epilogue, bool kTransposeW>
bool SupportsRows(const TensorRef& x, const TensorRef& w, Stream stream) {
  return HasCode(RowsKernel<Epilogue, kTransposeW>, stream) && IsPackable(x) && IsPackable(w) &&
         RowsKernelShared<Epilogue>(w.dim(0)) <= kMaxShared && x.dim(0) > 0 && w.dim(0) > 0 &&
         x.dim(0) < (int64_t{1} << 31);
}

}  // namespace lacuna::cuda::hopper
