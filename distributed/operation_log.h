// OperationLog: the collectives that this rank has started on a communicator and on those split off
// it, for a thread that asks while the rank is busy or stuck (distributed/watchdog.h). Every member
// may be called by any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
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
    std::vector<int> ranks;  // of the run, of the communicator's members in order
    std::string name;
    int64_t sequence = 0;  // of its communicator
    int64_t bytes = 0;
    std::string context;  // what the rank was doing when it started it
    Deadline since;
  };

  // `done`, if given, tells of work that ends without anybody polling; it must be callable until
  // End and must not use the log. The context and the time are set here.
  int64_t Begin(Operation operation, std::function<bool()> done = nullptr);
  void End(int64_t id);

  // "step 120, layers.3.ffn": what the rank does from now on.
  void SetContext(std::string context);
  std::string context() const;

  // The unfinished operation that was started first; none where nothing is under way.
  std::optional<Operation> Oldest();
  // The last operations that were started on a communicator, oldest first; at most kKept.
  std::vector<Operation> Started(const std::string& communicator) const;
  static constexpr size_t kKept = 100;

  // Called by AbortWork: ends what a communicator has on a device. Returns an id for Remove.
  int64_t AddAbort(std::function<void()> abort);
  void RemoveAbort(int64_t id);
  void AbortWork();

 private:
  struct Unfinished {
    int64_t id;
    Operation operation;
    std::function<bool()> done;
  };

  mutable std::mutex mutex_;
  int64_t next_id_ = 0;
  std::string context_;
  std::list<Unfinished> unfinished_;  // in order of their start
  std::map<std::string, std::deque<Operation>> started_;
  std::map<int64_t, std::function<void()>> aborts_;
};

// "all_reduce_sum #12 of world (3.1 MB)"
std::string Describe(const OperationLog::Operation& operation);

}  // namespace lacuna
