// See wgmma.cuh here.
#pragma once

#include "core/cuda/wgmma.cuh"
