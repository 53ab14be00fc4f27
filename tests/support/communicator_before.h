// A communicator that hands everything on to another one, for tests to change some of it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "distributed/communicator.h"

namespace lacuna::test {

class CommunicatorBefore : public Communicator {
 public:
  explicit CommunicatorBefore(Communicator& behind) : behind_(behind) {}

  int rank() const override { return behind_.rank(); }
  int size() const override { return behind_.size(); }
  std::unique_ptr<Communicator> Split(int color) override { return behind_.Split(color); }
  Request AllReduceSum(Tensor tensor) override { return behind_.AllReduceSum(std::move(tensor)); }
  Request ReduceScatterSum(Tensor in, Tensor out) override {
    return behind_.ReduceScatterSum(std::move(in), std::move(out));
  }
  Request AllGatherInto(Tensor in, Tensor out) override {
    return behind_.AllGatherInto(std::move(in), std::move(out));
  }
  Request AllToAllRows(Tensor in, std::vector<int64_t> send_rows, Tensor out,
                       std::vector<int64_t> receive_rows) override {
    return behind_.AllToAllRows(std::move(in), std::move(send_rows), std::move(out),
                                std::move(receive_rows));
  }
  Request Broadcast(Tensor tensor, int root) override {
    return behind_.Broadcast(std::move(tensor), root);
  }
  Request AllGather(std::string bytes, std::vector<std::string>* all) override {
    return behind_.AllGather(std::move(bytes), all);
  }
  Request AllToAll(std::vector<std::string> sent, std::vector<std::string>* received) override {
    return behind_.AllToAll(std::move(sent), received);
  }
  Request Barrier() override { return behind_.Barrier(); }
  void Poll() override { behind_.Poll(); }
  void Abort(int exit_code) override { behind_.Abort(exit_code); }

 private:
  Communicator& behind_;
};

}  // namespace lacuna::test
