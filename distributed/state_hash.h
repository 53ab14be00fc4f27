// A hash of tensors that needs no order and no whole tensor: a sum modulo 2^64, so that ranks and
// files each add what they hold of a tensor, cut in any way.
//
//   tensor = MixWord(key, 0) + sum over its elements k of MixWord(key ^ bits of element k, k + 1)
//   key    = XXH3-64 of "<name> <dtype> <shape>"
//   state  = sum over its tensors
//
// It shows whether two states are the same; it is no protection against intent.
#pragma once

#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/shape.h"

namespace lacuna {

uint64_t TensorKey(const std::string& name, DType dtype, const Shape& shape);
// What a tensor of this key adds before its first element.
uint64_t HashOfKey(uint64_t key);
// What its elements [first, first + count) add; `data` holds just those.
uint64_t HashElements(uint64_t key, DType dtype, int64_t first, const void* data, int64_t count);

}  // namespace lacuna
