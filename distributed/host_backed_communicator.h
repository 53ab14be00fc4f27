// HostBackedCommunicator: a communicator for tensors of a device that leaves text, barriers and the
// end of the run to a host communicator behind it, whose ranks, name, timeout and log it has.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "distributed/communicator.h"

namespace lacuna {

class HostBackedCommunicator : public Communicator {
 public:
  explicit HostBackedCommunicator(std::shared_ptr<Communicator> host)
      : Communicator(Before{*host}), host_(std::move(host)) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  int WorldRank(int rank) const override { return host_->WorldRank(rank); }
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

 private:
  std::shared_ptr<Communicator> host_;
};

}  // namespace lacuna
