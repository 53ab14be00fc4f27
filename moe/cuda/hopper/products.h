// Grouped products for Hopper (sm_90a): bf16, rows that are multiples of 16 bytes. The contracts are
// those of moe/grouped_matmul.h and moe/grouped_swiglu.h.
#pragma once

#include <cstdint>

#include "moe/grouped_matmul.h"
#include "moe/grouped_swiglu.h"

namespace lacuna::cuda::hopper {

bool Supports(const GroupedMatMulArgs&, Stream);
bool Supports(const GroupedMatMulDwArgs&, Stream);
bool Supports(const GroupedSwiGluArgs&, Stream);
bool Supports(const RoutedSwiGluBwdArgs&, Stream);

// Only what Supports says yes to.
void GroupedMatMul(const GroupedMatMulArgs&, Stream);
void GroupedMatMulDw(const GroupedMatMulDwArgs&, Stream);
void GroupedSwiGlu(const GroupedSwiGluArgs&, Stream);
void RoutedSwiGluBwd(const RoutedSwiGluBwdArgs&, Stream);

}  // namespace lacuna::cuda::hopper
