// Transport: messages between two ranks, on which MessageCommunicator builds its collectives.
// Implemented by MPI, and in the tests by threads whose messages can be delayed and lost.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace lacuna {

class Transport {
 public:
  class Message {
   public:
    virtual ~Message() = default;
    // Never blocks. Throws CommunicationError where the peer sent another number of bytes than were
    // asked for.
    virtual bool Done() = 0;
  };

  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // The rank in the run of this transport's `rank`: what errors name.
  virtual int WorldRank(int rank) const { return rank; }
  // Messages match by (sender, receiver, tag), in the order they were posted; 0 <= tag < 2^24. The
  // memory must stay until done.
  virtual std::unique_ptr<Message> Send(int to, int tag, const void* data, int64_t bytes) = 0;
  virtual std::unique_ptr<Message> Receive(int from, int tag, void* data, int64_t bytes) = 0;
  // The ranks `members`, ascending and this one among them, as a transport whose messages are never
  // matched with this one's. Every rank calls it with the members of its own part, once it knows
  // that all others do.
  virtual std::unique_ptr<Transport> Split(const std::vector<int>& members) = 0;
  [[noreturn]] virtual void Abort(int exit_code) = 0;
  // Called when a request failed: messages may be under way for ever, so leaving in good order is
  // no longer possible.
  virtual void GiveUp() {}
};

}  // namespace lacuna
