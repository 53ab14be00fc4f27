// Communicator: collectives over the ranks of a run.
//
// Every collective is non-blocking: it returns a Request, which is polled until it is done or its
// deadline passes, so a dead or stuck peer becomes an error that names it and never a hang. All
// ranks call the same collectives in the same order; they may wait for them in any order. One
// thread of a rank uses a communicator and all that was split off it. Tensors are on the CPU; with
// ForDevice (distributed/device_communicator.h) also on its device.
//
// Sums are the same bits on every rank, and in every run with the same number of ranks: element i
// is the sum of the ranks' values in rank order, added in f64 and rounded once at the end (integers
// are exact modulo 2^64 or 2^32). NCCL's are rounded at each addition
// (distributed/nccl_communicator.h).
//
//   LACUNA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> comm, MakeCommunicator());
//   Request sum = comm->AllReduceSum(gradients);
//   ...                                            // other work; comm->Poll() now and then moves
//     it on
//   sum.Wait();                                    // the communicator's timeout; or Wait(deadline)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/error.h"
#include "core/status.h"
#include "core/tensor.h"
#include "distributed/communication_progress.h"
#include "distributed/operation_log.h"
#include "distributed/steady_clock.h"

namespace lacuna {

inline constexpr double kDefaultTimeoutSeconds = 120;

// A peer that does not answer, or answers something else. The program ends with
// ExitCode::kHardware.
class CommunicationError : public Error {
 public:
  using Error::Error;
};

// A collective under way. Copies share it.
class Request {
 public:
  // One collective as its backend sees it.
  class Operation {
   public:
    virtual ~Operation() = default;
    // Moves it (and every other one of its communicator) on without blocking; true when done.
    virtual bool Poll() = 0;
    // For work on a device: orders the device's compute stream after it and returns true. False
    // where the host has to wait.
    virtual bool WaitOnStream() { return false; }
    virtual double timeout_seconds() const = 0;
    // Throws CommunicationError: "rank 0 of 4: all_reduce_sum #12 (3.1 MB): nothing from rank 3
    // within 120.0 s".
    [[noreturn]] virtual void Fail(double waited_seconds) = 0;
  };

  Request() = default;  // done
  explicit Request(std::shared_ptr<Operation> operation) : operation_(std::move(operation)) {}

  bool Poll();
  // Until done. Throws CommunicationError at the deadline (by default the communicator's timeout
  // from now); the communicator is of no use from then on. For tensors on a CUDA device, what is
  // launched on its compute stream afterwards finds the result; NCCL's backend does not make the
  // host wait for it.
  void Wait();
  void Wait(Deadline deadline);
  // What Wait does at its deadline, of a request that is not done.
  void Fail(double waited_seconds);

 private:
  std::shared_ptr<Operation> operation_;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // The rank in the whole run of this communicator's `rank`.
  virtual int WorldRank(int rank) const { return rank; }
  // How long Wait() waits.
  double timeout_seconds() const { return settings_->timeout_seconds; }
  void set_timeout_seconds(double seconds) { settings_->timeout_seconds = seconds; }
  // What errors and the watchdog call it, the same on every rank; "world" unless set, and
  // "world/0" for the first that is split off it.
  const std::string& name() const { return settings_->name; }
  void set_name(std::string name) { settings_->name = std::move(name); }
  // Both are shared with what is split off.
  OperationLog& log() const { return *settings_->log; }
  CommunicationProgress& progress() const { return *settings_->progress; }
  // What its collectives stand under in the log; their sequence numbers are of this name.
  virtual std::string LogName() const { return name(); }
  // Enters a collective in the log; `state` as OperationLog::Begin's.
  int64_t LogBegin(const char* name, int64_t sequence, int64_t bytes,
                   OperationLog::DeviceState state = nullptr) const;
  // "rank 3 of 8", "rank 3 (1 of 2 in expert)": how errors begin.
  std::string Self() const;

  // The ranks that give the same color, in the order of their ranks here. Every rank calls it, and
  // all wait until the last one has; throws CommunicationError after timeout_seconds(), which the
  // new communicator takes over. Its collectives and this one's are never taken for each other, and
  // waiting for one moves the others on.
  virtual std::unique_ptr<Communicator> Split(int color) = 0;

  // In place; f32, f64, bf16, i32 or i64. The tensor must stay untouched until the request is done.
  virtual Request AllReduceSum(Tensor tensor) = 0;
  // out[i] = the sum over ranks of in[rank() * n + i]. in: [n * size()], out: [n], in number of
  // elements; dtypes as AllReduceSum's. `out` may be that part of `in`.
  virtual Request ReduceScatterSum(Tensor in, Tensor out) = 0;
  // out[r * n + i] = rank r's in[i]. in: [n], out: [n * size()], in number of elements; any dtype.
  // `in` may be this rank's part of `out`.
  virtual Request AllGatherInto(Tensor in, Tensor out) = 0;
  // Rows by destination become rows by source. in: [sum of send_rows, ...], the first send_rows[0]
  // rows are for rank 0; out: [sum of receive_rows, ...], the first receive_rows[0] rows come from
  // rank 0. Rank r's send_rows[s] must be rank s's receive_rows[r]; 0 is right. Any dtype. With k
  // size() numbers on both sides of all ranks the rows are those of k such rounds, one behind another.
  virtual Request AllToAllRows(Tensor in, std::vector<int64_t> send_rows, Tensor out,
                               std::vector<int64_t> receive_rows) = 0;
  // In place; any dtype, the same shape on every rank.
  virtual Request Broadcast(Tensor tensor, int root) = 0;
  // (*all)[r] becomes rank r's bytes, of any length. `all` must live until the request is done.
  virtual Request AllGather(std::string bytes, std::vector<std::string>* all) = 0;
  // (*received)[r] becomes what rank r put at this rank's place of its `sent` (size() entries, of
  // any length).
  virtual Request AllToAll(std::vector<std::string> sent, std::vector<std::string>* received) = 0;
  // Done when every rank has called it.
  virtual Request Barrier() = 0;
  // Moves all requests on without blocking.
  virtual void Poll() = 0;

  // Ends the whole run at once, all ranks, with this exit code.
  [[noreturn]] virtual void Abort(int exit_code) = 0;

 protected:
  struct PartOf {
    Communicator& whole;
  };
  struct Before {
    const Communicator& other;
  };
  Communicator() : settings_(std::make_shared<Settings>()) {}
  // What is split off takes over the timeout, the log and the progress.
  explicit Communicator(PartOf part);
  // A communicator that stands before another one shares everything with it.
  explicit Communicator(Before behind) : settings_(behind.other.settings_) {}

 private:
  struct Settings {
    double timeout_seconds = kDefaultTimeoutSeconds;
    std::string name = "world";
    int num_splits = 0;
    std::shared_ptr<OperationLog> log = std::make_shared<OperationLog>();
    std::shared_ptr<CommunicationProgress> progress = std::make_shared<CommunicationProgress>();
    std::shared_ptr<const std::vector<int>> world_ranks;  // once the first collective was logged
  };
  std::shared_ptr<Settings> settings_;
};

// One rank: every collective is done when it returns.
std::unique_ptr<Communicator> MakeSelfCommunicator();
// MPI's world where mpirun (or srun with PMIx) started this process, itself alone otherwise. Call
// from main, once. Its timeout is the environment's LACUNA_TIMEOUT_SECONDS, else `timeout_seconds`;
// an error where the former is no number above 0.
absl::StatusOr<std::unique_ptr<Communicator>> MakeCommunicator(
    double timeout_seconds = kDefaultTimeoutSeconds);

// Every rank's `text`, from a collective that is waited for.
std::vector<std::string> AllGatherNow(Communicator& comm, std::string text, Deadline deadline);
// The root's `text` on every rank.
std::string BroadcastNow(Communicator& comm, const std::string& text, int root, Deadline deadline);
// The same outcome on every rank: OK, or the error of the first rank that has one ("rank 2: ..."
// where rank 0 had none).
absl::Status AgreeOnStatus(Communicator& comm, const absl::Status& mine, Deadline deadline);

}  // namespace lacuna
