// Ranks as threads of one process, with messages that can be held back or lost: faults that a real
// MPI does not give on demand.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "distributed/message_communicator.h"

namespace lacuna::test {

// Where the messages of all ranks lie until they are received.
struct Mailbox {
  std::mutex mutex;
  // By group, from, to (ranks of the run) and tag.
  using Key = std::tuple<std::string, int, int, int>;
  std::map<Key, std::deque<std::vector<char>>> messages;
  // Receivers of a key take its messages in the order in which they were posted.
  std::map<Key, int64_t> posted, taken;
  // True for a message that never arrives.
  std::function<bool(int from, int to)> lose = [](int, int) { return false; };
  // Polls of the receiver before a message can be seen; varies the order of arrival.
  std::function<int(int from, int to, int tag)> delay = [](int, int, int) { return 0; };
};

class ThreadTransport : public Transport {
 public:
  ThreadTransport(Mailbox& box, int rank, std::vector<int> members, std::string group = "")
      : box_(box), rank_(rank), members_(std::move(members)), group_(std::move(group)) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  int WorldRank(int rank) const override { return members_[static_cast<size_t>(rank)]; }

  std::unique_ptr<Message> Send(int to, int tag, const void* data, int64_t bytes) override {
    const std::lock_guard lock(box_.mutex);
    const char* in = static_cast<const char*>(data);
    const int me = WorldRank(rank_), other = WorldRank(to);
    if (!box_.lose(me, other)) box_.messages[{group_, me, other, tag}].emplace_back(in, in + bytes);
    return std::make_unique<Sent>();
  }
  std::unique_ptr<Message> Receive(int from, int tag, void* data, int64_t bytes) override {
    const int me = WorldRank(rank_), other = WorldRank(from);
    return std::make_unique<Received>(box_, Mailbox::Key{group_, other, me, tag}, data, bytes,
                                      box_.delay(other, me, tag));
  }
  std::unique_ptr<Transport> Split(const std::vector<int>& members) override {
    std::vector<int> part;
    for (const int member : members) part.push_back(WorldRank(member));
    const auto place = std::find(members.begin(), members.end(), rank_) - members.begin();
    return std::make_unique<ThreadTransport>(
        box_, static_cast<int>(place), part,
        group_ + "/" + std::to_string(splits_++) + ":" + std::to_string(part.front()));
  }
  void Abort(int exit_code) override { std::_Exit(exit_code); }

 private:
  struct Sent : Message {
    bool Done() override { return true; }
  };
  struct Received : Message {
    Received(Mailbox& box, Mailbox::Key key, void* data, int64_t bytes, int polls)
        : box(box), key(std::move(key)), data(data), bytes(bytes), polls(polls) {
      const std::lock_guard lock(box.mutex);
      turn = box.posted[this->key]++;
    }
    bool Done() override {
      if (polls-- > 0) return false;
      const std::lock_guard lock(box.mutex);
      auto& queue = box.messages[key];
      if (queue.empty() || box.taken[key] != turn) return false;
      ++box.taken[key];
      if (static_cast<int64_t>(queue.front().size()) != bytes)
        throw CommunicationError("message of another size");
      std::copy(queue.front().begin(), queue.front().end(), static_cast<char*>(data));
      queue.pop_front();
      return true;
    }
    Mailbox& box;
    Mailbox::Key key;
    void* data;
    int64_t bytes;
    int polls;
    int64_t turn;
  };
  Mailbox& box_;
  int rank_;
  std::vector<int> members_;
  std::string group_;
  int splits_ = 0;
};

// Runs body(comm) as ranks 0..ranks-1 and waits for all; the first exception is rethrown.
inline void RunRanks(Mailbox& box, int ranks, const std::function<void(Communicator&)>& body) {
  std::vector<std::exception_ptr> failures(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      try {
        std::vector<int> members(static_cast<size_t>(ranks));
        std::iota(members.begin(), members.end(), 0);
        const auto comm =
            MakeMessageCommunicator(std::make_unique<ThreadTransport>(box, r, std::move(members)));
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
