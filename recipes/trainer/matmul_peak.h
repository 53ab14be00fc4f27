// The matrix-product rate of this machine, which model FLOPs utilization is measured against on a
// CPU.
#pragma once

#include "core/dtype.h"
#include "distributed/communicator.h"

namespace lacuna {

// Best rate (FLOP/s) of a few square products of this dtype with this rank's threads; takes about
// 0.5 s.
double MeasureMatMulPeak(DType dtype);
// The sum over all ranks, measured at once, as they will compute. Collective.
double MeasurePeakOfAllRanks(DType dtype, Communicator& comm);

}  // namespace lacuna
