// hang_steps cpu|cuda FAULT RANK: steps of collectives on all ranks; in step 3 one rank has a fault.
//
//   stop     it stops, as by SIGSTOP
//   spin     it computes for ever
//   other    it calls another collective
//   size     it calls the collective with another size
//   skip     it leaves one out
//   late     it comes 1 s late: no fault
//
// Prints "step 5 done" on rank 0 where nothing was wrong; exits with 5 where a rank noticed, as
// lacuna train does. cuda: the collectives are of tensors on the rank's card.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "core/profile_range.h"
#include "core/stream.h"
#include "distributed/device_assignment.h"
#include "distributed/device_communicator.h"
#include "distributed/watchdog.h"

namespace lacuna {
namespace {

constexpr int kFaultStep = 3;

void Step(Communicator& comm, Device device, const std::string& fault) {
  const ModuleRange range("layer 3 attention");
  Tensor sum = Tensor::Zeros({fault == "size" ? 6000 : 5000}, DType::kF32, device);
  if (fault == "stop") std::raise(SIGSTOP);
  if (fault == "late") std::this_thread::sleep_for(std::chrono::seconds(1));
  for (volatile bool spin = fault == "spin"; spin;) continue;
  Request request;
  if (fault == "other") {
    request = comm.Broadcast(sum, 0);
  } else if (fault != "skip") {
    request = comm.AllReduceSum(sum);
  }
  request.Wait();
  sum.ToDoubles();  // of a card: the host waits
}

void Run(Communicator& host, Device device, const std::string& fault, int rank) {
  const auto comm = ForDevice({&host, [](Communicator*) {}}, device);
  const auto group = comm->Split(0);
  group->set_name("group");
  for (int step = 1; step <= 5; ++step) {
    comm->log().SetContext(fmt::format("step {}", step));
    Step(*group, device, step == kFaultStep && comm->rank() == rank ? fault : "");
    comm->Barrier().Wait();
  }
  if (comm->rank() == 0) std::puts("step 5 done");
}

void End(Communicator& comm, const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  comm.Abort(static_cast<int>(ExitCode::kHardware));
}

int Main(const std::string& where, const std::string& fault, int rank) {
  auto made = MakeCommunicator();
  if (!made.ok()) {
    std::fprintf(stderr, "%s\n", Message(made.status()).c_str());
    return 1;
  }
  Communicator& comm = **made;
  try {
    const Watchdog watchdog(comm, [&](const std::string& why) { End(comm, why); });
    Device device = kCpu;
    if (where == "cuda") {
      const absl::StatusOr<int> card = AssignDevice(comm);
      LACUNA_CHECK(card.ok(), "{}", Message(card.status()));
      device = CudaDevice(*card);
    }
    Run(comm, device, fault, rank);
  } catch (const std::exception& error) {
    End(comm, error.what());
  }
  return 0;
}

}  // namespace
}  // namespace lacuna

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: hang_steps cpu|cuda stop|spin|other|size|skip|late RANK\n");
    return 2;
  }
  return lacuna::Main(argv[1], argv[2], std::atoi(argv[3]));
}
