// OperationLog: the collectives that this rank has started on a communicator and on those split off
// it, for a thread that asks while the rank is busy or stuck (distributed/watchdog.h). Every member
// may be called by any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "distributed/steady_clock.h"

namespace lacuna {

class OperationLog {
 public:
  struct Operation {
    std::string communicator;
    std::shared_ptr<const std::vector<int>> ranks;  // of the run: the communicator's, in order
    std::string name;
    int64_t sequence = 0;  // of its communicator
    int64_t bytes = 0;
    std::string context;  // what the rank was doing when it started it
    SteadyClock::time_point since;
  };
  // Of an operation that a device does by itself: behind other work of the device, waiting for
  // peers or at work, done.
  enum class OnDevice { kQueued, kRunning, kDone };
  using DeviceState = std::function<OnDevice()>;

  // `state`, if given, tells of work that ends without anybody polling; it must be callable until
  // End and must not use the log. The context and the time are set here.
  int64_t Begin(Operation operation, DeviceState state = nullptr);
  void End(int64_t id);

  // "step 120": what the rank does from now on. An operation's context has the part of the model
  // with it ("step 120, layer 3 attention").
  void SetContext(std::string context);
  std::string context() const;

  // The unfinished operation that was started first; none where nothing is under way.
  std::optional<Operation> Oldest();
  std::optional<Operation> Find(int64_t id) const;
  // An operation that its device has been running for longer than `seconds`.
  std::optional<Operation> Overdue(double seconds);
  // The last operations that were started on a communicator, oldest first; at most kKept.
  std::vector<Operation> Started(const std::string& communicator) const;
  // Whether the device still works on what comes before this operation.
  bool IsQueued(const std::string& communicator, int64_t sequence) const;
  static constexpr size_t kKept = 100;

  // What to say of an unfinished operation beyond its name: which ranks it waits for and why. Set
  // by the watchdog; empty without one, and of an operation that is not under way.
  using Diagnosis = std::function<std::string(const Operation&)>;
  void SetDiagnosis(Diagnosis diagnosis);
  std::string Diagnose(int64_t id) const;

 private:
  struct Unfinished {
    int64_t id;
    Operation operation;
    DeviceState state;
    std::optional<SteadyClock::time_point> running_since;
  };
  void DropDone();

  mutable std::mutex mutex_;
  int64_t next_id_ = 0;
  std::string context_;
  std::list<Unfinished> unfinished_;  // in order of their start
  std::map<std::string, std::deque<Operation>> started_;
  Diagnosis diagnosis_;
};

// "all_reduce_sum #12 of world (3.1 MB)"
std::string Describe(const OperationLog::Operation& operation);

}  // namespace lacuna
