// HostBackedCommunicator: a communicator for tensors of a device that leaves everything else to a
// host communicator behind it, whose ranks, name, timeout and log it has. A group of one rank copies
// on the device.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "distributed/collective_arguments.h"
#include "distributed/communicator.h"

namespace lacuna {

class HostBackedCommunicator : public Communicator {
 public:
  explicit HostBackedCommunicator(std::shared_ptr<Communicator> host)
      : Communicator(Before{*host}), host_(std::move(host)), self_(MakeSelfCommunicator()) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  int WorldRank(int rank) const override { return host_->WorldRank(rank); }
  Request AllReduceSum(Tensor tensor) final;
  Request ReduceScatterSum(Tensor in, Tensor out) final;
  Request AllGatherInto(Tensor in, Tensor out) final;
  Request AllToAllRows(Tensor in, std::vector<int64_t> send_rows, Tensor out,
                       std::vector<int64_t> receive_rows) final;
  Request Broadcast(Tensor tensor, int root) final;
  Request AllGather(std::string bytes, std::vector<std::string>* all) override {
    return host_->AllGather(std::move(bytes), all);
  }
  Request AllToAll(std::vector<std::string> sent, std::vector<std::string>* received) override {
    return host_->AllToAll(std::move(sent), received);
  }
  Request Barrier() override { return host_->Barrier(); }
  void Poll() override { host_->Poll(); }
  void Abort(int exit_code) override { host_->Abort(exit_code); }

 protected:
  Communicator& host() const { return *host_; }

  virtual bool OnDevice(const Tensor& tensor) const = 0;
  // Of checked tensors of the device, on more than one rank.
  virtual Request AllReduceOnDevice(Tensor tensor) = 0;
  virtual Request ReduceScatterOnDevice(Tensor in, Tensor out) = 0;
  virtual Request AllGatherOnDevice(Tensor in, Tensor out) = 0;
  // What AllToAllRows is given, and the same as bytes.
  struct Rows {
    std::vector<int64_t> send, receive;
    RowParts parts;
  };
  virtual Request AllToAllOnDevice(Tensor in, Tensor out, Rows rows) = 0;
  virtual Request BroadcastOnDevice(Tensor tensor, int root) = 0;

 private:
  // The communicator that does without the device's; null where there is none.
  Communicator* Direct(const Tensor& tensor) const {
    if (!tensor.defined() || !OnDevice(tensor)) return host_.get();
    return size() == 1 ? self_.get() : nullptr;
  }

  std::shared_ptr<Communicator> host_;
  std::unique_ptr<Communicator> self_;
};

}  // namespace lacuna
