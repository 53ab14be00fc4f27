// A Communicator for GPU tensors over NCCL; CPU tensors, text, barriers and the end of the run are
// the host communicator's.
//
// A collective runs on a stream of the communicator's own, behind what the compute stream has been
// given when it is called. Wait orders the compute stream behind it and does not make the host wait;
// Poll tells whether the device is through. A peer that never comes is found by the watchdog
// (distributed/watchdog.h), which sees a collective that runs for longer than the timeout. The first
// collective of a kind connects the ranks and waits until all have called it.
//
// Sums are NCCL's ring's: the tensor is cut into chunks, and the sum of a chunk travels once round
// the ring from a rank that depends on the chunk; each rank adds its own values to what arrives,
//
//   ((x[a] + x[a+1]) + x[a+2]) + ...                     in the ring's order, n - 1 additions,
//
// each rounded to the tensor's dtype. Against the host's sum (rank order, f64, one rounding), the
// error is up to n - 1 roundings of sums of |x|: 2^-24 each in f32, 2^-8 in bf16, so 8 ranks may
// be off by 2.7 % of the sum of |x|. Gradients are therefore summed in f32.
// Integers are exact modulo 2^32 and 2^64. A sum is finished once and copied from then on, so that
// all ranks have the same bits; chunks and ring are functions of the size, the ranks and the
// machine, so that two runs have, too. That rests on NCCL_ALGO=Ring and NCCL_NVLS_ENABLE=0, which
// are set unless the environment says otherwise.
#pragma once

#include <memory>
#include <string>

#include "distributed/communicator.h"

namespace lacuna {

// Every rank of `host` calls it, each with a card of its own (distributed/device_assignment.h); all
// wait until the last one has. Throws CommunicationError. Only in a build with NCCL.
std::unique_ptr<Communicator> MakeNcclCommunicator(std::shared_ptr<Communicator> host,
                                                   Device device);

// Of the library that is loaded: 22809 for 2.28.9.
int NcclVersion();

}  // namespace lacuna
