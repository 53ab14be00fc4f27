// Progress: what of a rank moves on together. A rank that waits for one collective must not hold up
// peers that wait for another one, whichever communicator that belongs to.
#pragma once

#include <vector>

namespace lacuna {

class Progress {
 public:
  class Member {
   public:
    virtual ~Member() = default;
    // Moves its own work on without blocking.
    virtual void Advance() = 0;
  };

  void Add(Member* member) { members_.push_back(member); }
  void Remove(Member* member) { std::erase(members_, member); }
  void Poll() {
    if (polling_) return;  // a member that starts work polls
    const Guard guard(polling_);
    for (Member* member : members_) member->Advance();
  }

 private:
  struct Guard {
    explicit Guard(bool& flag) : flag(flag) { flag = true; }
    ~Guard() { flag = false; }
    bool& flag;
  };

  std::vector<Member*> members_;
  bool polling_ = false;
};

}  // namespace lacuna
