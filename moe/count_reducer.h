// How the counts of choices of all ranks come together, set from outside: moe knows no mesh.
#pragma once

#include <functional>

#include "core/tensor.h"

namespace lacuna {

// Replaces counts [E] f64, which stand on the layer's device, by their sum over the ranks that
// share a global batch. Every rank calls it equally often and in the same order. An empty function
// stands for one rank.
using CountReducer = std::function<void(Tensor& counts)>;

}  // namespace lacuna
