// Which rank is to blame for a collective that is not done, from what all ranks say of themselves.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "distributed/operation_log.h"

namespace lacuna {

// What a rank answers when it is asked about one collective.
struct PeerState {
  int rank = 0;  // of the run
  bool answers = false;
  std::string context;  // what it does: "step 7"
  // The collective of that number on that communicator ("broadcast #12 of world (40 B)"); none
  // where it has not come to it.
  std::optional<std::string> started;
  std::string last;     // the last one it started on the communicator, and where; empty: none
  bool queued = false;  // its device is not through with what comes before
  std::string waits;    // the oldest one it is in, of any communicator; empty: none
};

// "in step 7, layer 3 ffn; rank 2 does not answer: it is stopped, dead or cut off; ranks 1, 3 wait in
// it, too". `peers`: the other ranks of the run.
std::string HangReport(const OperationLog::Operation& operation,
                       const std::vector<PeerState>& peers);

// This rank's own state.
PeerState StateOfThisRank(OperationLog& log, int rank, const std::string& communicator,
                          int64_t sequence);

}  // namespace lacuna
