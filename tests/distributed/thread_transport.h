// Ranks as threads of one process, with messages that can be held back or lost: faults that a real
// MPI does not give on demand.
#pragma once

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "distributed/message_communicator.h"

namespace lacuna::test {

// Where the messages of all ranks lie until they are received.
struct Mailbox {
  std::mutex mutex;
  std::map<std::tuple<int, int, int>, std::deque<std::vector<char>>> messages;  // by from, to, tag
  // True for a message that never arrives.
  std::function<bool(int from, int to)> lose = [](int, int) { return false; };
  // Polls of the receiver before a message can be seen; varies the order of arrival.
  std::function<int(int from, int to, int tag)> delay = [](int, int, int) { return 0; };
};

class ThreadTransport : public Transport {
 public:
  ThreadTransport(Mailbox& box, int rank, int size) : box_(box), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::unique_ptr<Message> Send(int to, int tag, const void* data, int64_t bytes) override {
    const std::lock_guard lock(box_.mutex);
    const char* in = static_cast<const char*>(data);
    if (!box_.lose(rank_, to)) box_.messages[{rank_, to, tag}].emplace_back(in, in + bytes);
    return std::make_unique<Sent>();
  }
  std::unique_ptr<Message> Receive(int from, int tag, void* data, int64_t bytes) override {
    return std::make_unique<Received>(box_, std::tuple{from, rank_, tag}, data, bytes,
                                      box_.delay(from, rank_, tag));
  }
  void Abort(int exit_code) override { std::_Exit(exit_code); }

 private:
  struct Sent : Message {
    bool Done() override { return true; }
  };
  struct Received : Message {
    Received(Mailbox& box, std::tuple<int, int, int> key, void* data, int64_t bytes, int polls)
        : box(box), key(key), data(data), bytes(bytes), polls(polls) {}
    bool Done() override {
      if (polls-- > 0) return false;
      const std::lock_guard lock(box.mutex);
      auto& queue = box.messages[key];
      if (queue.empty()) return false;
      if (static_cast<int64_t>(queue.front().size()) != bytes)
        throw CommunicationError("message of another size");
      std::copy(queue.front().begin(), queue.front().end(), static_cast<char*>(data));
      queue.pop_front();
      return true;
    }
    Mailbox& box;
    std::tuple<int, int, int> key;
    void* data;
    int64_t bytes;
    int polls;
  };
  Mailbox& box_;
  int rank_;
  int size_;
};

// Runs body(comm) as ranks 0..ranks-1 and waits for all; the first exception is rethrown.
inline void RunRanks(Mailbox& box, int ranks, const std::function<void(Communicator&)>& body) {
  std::vector<std::exception_ptr> failures(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      try {
        const auto comm = MakeMessageCommunicator(std::make_unique<ThreadTransport>(box, r, ranks));
        body(*comm);
      } catch (...) {
        failures[static_cast<size_t>(r)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace lacuna::test
