// The matrix-product rate of this machine or card, which model FLOPs utilization is measured
// against.
#pragma once

#include "core/device.h"
#include "core/dtype.h"
#include "distributed/communicator.h"

namespace lacuna {

// Best rate (FLOP/s) of a few square products of random numbers of this dtype, with this rank's
// threads or on its card; takes about 0.5 s.
double MeasureMatMulPeak(DType dtype, Device device);
// The sum over all ranks, measured at once, as they will compute. Collective.
double MeasurePeakOfAllRanks(DType dtype, Device device, Communicator& comm);

}  // namespace lacuna
