// Collectives under way over point-to-point messages: what MessageCommunicator starts, and what
// moves all of it on.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/transport.h"

namespace lacuna {

class OperationQueue;

// A collective as phases: the messages under way, and what to do when all have arrived.
class MessageOperation : public Request::Operation {
 public:
  // The `sequence`-th collective of `queue`, named in errors with the bytes it is about.
  MessageOperation(OperationQueue& queue, const char* name, int64_t sequence, int64_t bytes);

  // A message of phase 0 or 1; the memory must stay until the phase is over.
  void Send(int to, int phase, const void* data, int64_t bytes);
  void Receive(int from, int phase, void* data, int64_t bytes);
  // Runs once all messages are done; may post those of the next phase and set another one.
  void Then(std::function<void()> next) { next_ = std::move(next); }

  bool Poll() override;
  double timeout_seconds() const override;
  [[noreturn]] void Fail(double waited_seconds) override;
  // Poll of this operation alone.
  bool Advance();

 private:
  struct Pending {
    int peer;
    bool receive;
    std::unique_ptr<Transport::Message> message;
  };

  OperationQueue& queue_;
  const char* name_;
  int64_t sequence_;
  int64_t bytes_;
  int64_t log_id_;
  std::vector<Pending> pending_;
  std::function<void()> next_;
  bool done_ = false;
};

// The operations of one communicator that are under way on this rank.
class OperationQueue : public Progress::Member {
 public:
  using OperationPtr = std::shared_ptr<MessageOperation>;

  // `owner`, whose settings hold for every operation, must outlive this.
  OperationQueue(std::unique_ptr<Transport> transport, const Communicator& owner)
      : transport_(std::move(transport)), owner_(owner) {
    owner_.progress().Add(this);
  }
  // What is not done by then, and the transport, stay for the rest of the process: peers may still
  // write into its memory.
  ~OperationQueue() override;
  OperationQueue(const OperationQueue&) = delete;
  OperationQueue& operator=(const OperationQueue&) = delete;

  // Throws CommunicationError once an operation has failed.
  OperationPtr Start(const char* name, int64_t bytes);
  // Polls from now on an operation whose first messages are posted.
  Request Launch(OperationPtr operation);
  // Of all that shares the owner's progress.
  void Poll() { owner_.progress().Poll(); }
  // Poll of this queue alone.
  void Advance() override;
  // After a failure: nothing starts any more.
  void GiveUp();

  Transport& transport() { return *transport_; }
  const Transport& transport() const { return *transport_; }
  const Communicator& owner() const { return owner_; }

 private:
  std::unique_ptr<Transport> transport_;
  const Communicator& owner_;
  int64_t sequence_ = 0;
  std::list<OperationPtr> active_;
  bool broken_ = false;
};

}  // namespace lacuna
