// Tensors as the emulated copy engine knows them.
#pragma once

#include <cstdint>

struct CUtensorMap {
  void* data;
  int element_bytes;
  int rank;
  int64_t size[5], stride[5];  // strides in elements, the first 1
  int box[5];
};
