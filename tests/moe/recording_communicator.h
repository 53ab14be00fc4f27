// A communicator that keeps what was asked of another one: the numbers of rows of every exchange,
// and when it began among other events.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/support/communicator_before.h"

namespace lacuna::test {

class RecordingCommunicator : public CommunicatorBefore {
 public:
  using CommunicatorBefore::CommunicatorBefore;

  std::vector<std::vector<int64_t>> sent_rows;  // of each AllToAllRows
  std::vector<std::string> events;              // "exchange" at each of them, and what tests add

  Request AllToAllRows(Tensor in, std::vector<int64_t> send_rows, Tensor out,
                       std::vector<int64_t> receive_rows) override {
    sent_rows.push_back(send_rows);
    events.push_back("exchange");
    return CommunicatorBefore::AllToAllRows(std::move(in), std::move(send_rows), std::move(out),
                                            std::move(receive_rows));
  }
};

}  // namespace lacuna::test
