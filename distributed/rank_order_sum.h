// The one definition of a sum over ranks.
#pragma once

#include <cstdint>
#include <functional>

#include "core/dtype.h"

namespace lacuna {

// target[i] = sum over r of part(r)[i] for i < count, in order of r: f32 and f64 in f64, i64 modulo
// 2^64. target may be a part.
void SumInRankOrder(DType dtype, int ranks, int64_t count,
                    const std::function<const char*(int)>& part, char* target);

}  // namespace lacuna
