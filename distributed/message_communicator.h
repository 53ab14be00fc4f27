// A Communicator over point-to-point messages: the sum's order is ours and not a library's, no
// collective can be confused with another (each has its own tag), and a deadline can name the ranks
// that did not answer.
//
// AllReduceSum of n ranks: rank r receives the r-th of n equal parts from everyone, sums it in rank
// order and sends the sum to everyone (2 (n-1)/n of the tensor leaves and enters each rank); below
// 8 KiB everyone sends everything and sums it alike.
#pragma once

#include <memory>

#include "distributed/communicator.h"
#include "distributed/transport.h"

namespace lacuna {

std::unique_ptr<Communicator> MakeMessageCommunicator(std::unique_ptr<Transport> transport);

// MPI's world as a transport; MPI is initialised (and in the end finalised) unless it already is.
absl::StatusOr<std::unique_ptr<Transport>> MakeMpiTransport();

}  // namespace lacuna
