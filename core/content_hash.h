// A hash of a tensor's bytes that needs no order: the sum over 8-byte words (the last one filled up
// with zeros) of a mix of the word and its index, modulo 2^64. Exact whatever the number of threads,
// so it shows whether two runs of a kernel gave the same bits. It is no protection against intent.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/tensor_ref.h"

namespace lacuna {

LACUNA_HOST_DEVICE inline uint64_t MixWord(uint64_t word, uint64_t index) {
  uint64_t h = word ^ (index + 1) * 0x9E3779B97F4A7C15u;
  h = (h ^ h >> 32) * 0xD6E8FEB86659FD93u;
  h = (h ^ h >> 32) * 0xD6E8FEB86659FD93u;
  return h ^ h >> 32;
}

// *sum += hash of x, in the order of the stream, whose device holds both.
void AddContentHash(const TensorRef& x, uint64_t* sum, Stream stream);
namespace cuda {
void AddContentHash(const void* data, int64_t bytes, uint64_t* sum, Stream stream);
}  // namespace cuda

}  // namespace lacuna
