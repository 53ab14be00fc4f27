// The communicator of a test that runs on several ranks; its main is tests/support/mpi_main.cc.
// Every rank runs every test in the same order; rank 0 prints as usual, the others only what
// failed, and all ranks exit with the worst result.
#pragma once

#include "distributed/communicator.h"

namespace lacuna::test {

Communicator& World();

}  // namespace lacuna::test
