// The one definition of a sum over ranks.
#pragma once

#include <cstdint>
#include <functional>

#include "core/dtype.h"

namespace lacuna {

// target[i] = sum over r of part(r)[i] for i < count, in order of r: f32, f64 and bf16 in f64
// (rounded to bf16 by way of f32), i32 and i64 modulo 2^32 and 2^64. target may be a part.
void SumInRankOrder(DType dtype, int ranks, int64_t count,
                    const std::function<const char*(int)>& part, char* target);

}  // namespace lacuna
