// RehearsalCommunicator: one rank of several without the others, so that a rank of a run can be
// measured alone on its device. It computes nothing of other ranks: no result is what training
// would give.
//
// A collective becomes copies on the device (its compute stream; the host's memory for CPU tensors)
// of the bytes that it would read and write there, and leaves usable values:
//   all-reduce       the tensor is read and written; its values stay
//   reduce-scatter   all of `in` is read; `out` is this rank's part of it
//   all-gather       all of `out` is read and written; of its values, this rank's part is `in`, and
//                    the others stay where AbsentPeers does not say what comes and `in` is in the same
//                    memory; else all parts are `in`
//   all-to-all       AbsentPeers says what comes, otherwise the sent rows again and again
//   broadcast        as all-reduce
// Text comes back as if every rank had given this one's. Requests are done at once.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "distributed/communicator.h"

namespace lacuna {

enum class CollectiveKind { kAllReduce, kReduceScatter, kAllGather, kAllToAll, kBroadcast };
inline constexpr int kNumCollectiveKinds = 5;
const char* NameOf(CollectiveKind kind);

// Is told of every collective, where the compute stream stands when it happens.
class CollectiveRecorder {
 public:
  struct Collective {
    CollectiveKind kind = CollectiveKind::kAllReduce;
    // What the rank's link carries in the direction that carries more, R ranks, S bytes: all-reduce
    // 2 (R - 1) / R S; reduce-scatter and all-gather (R - 1) / R S, S of the whole; all-to-all the
    // rows to or from others; broadcast S.
    double link_bytes = 0;
    bool on_host = false;  // of CPU tensors where the rank computes on a card
  };
  virtual ~CollectiveRecorder() = default;
  // Before and after its local copies; the number that the other calls are given.
  virtual int64_t Launched(const Collective& collective) = 0;
  virtual void Copied(int64_t number) = 0;
  // The compute stream goes on only with its result.
  virtual void Waited(int64_t number) = 0;
};

// Speaks for the ranks that are not there. Each function returns false where it has nothing to say.
class AbsentPeers {
 public:
  virtual ~AbsentPeers() = default;
  // Sets `out` to the rows that come from them, arguments as Communicator::AllToAllRows's.
  virtual bool Receive(const Tensor& /*in*/, const std::vector<int64_t>& /*send_rows*/,
                       Tensor& /*out*/, const std::vector<int64_t>& /*receive_rows*/) {
    return false;
  }
  // Sets all parts of `out`, that of this rank, number `rank`, to `in`: Communicator::AllGatherInto.
  virtual bool Gather(const Tensor& /*in*/, Tensor& /*out*/, int /*rank*/) { return false; }
};

struct RehearsedRank {
  int rank = 0, size = 1;
  Device device = kCpu;
  CollectiveRecorder* recorder = nullptr;  // must outlive the communicator; may be null
  AbsentPeers* peers = nullptr;            // the same
};
// It cannot be split: what colors the other ranks would give is not known. Receive counts of an
// all-to-all may differ from what this rank sends itself.
std::unique_ptr<Communicator> MakeRehearsalCommunicator(const RehearsedRank& rank);

}  // namespace lacuna
