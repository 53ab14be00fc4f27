// ReceivedChoices: the tokens that the other ranks of an expert group would send to a rehearsed one,
// in the format of AllToAllDispatcher (moe/dispatcher.h): numbers of rows of each chunk and choices by
// source [M, P + 1] i64 on the CPU, then rows of ids [S, K] i32 and of weights [S, K], then those of x,
// which are left to the communicator.
//
// Every rank of the group has the same number of tokens. Each takes K of the layer's experts one
// after the other without replacement; one of this rank's is f times as likely a choice as another,
// f such that the rank's choices are `balance` times an even share in expectation. Which of the
// rank's it is has chances in proportion to exp(s z_e), z standard normal, s = ln balance. So balance
// 1 is uniform routing, and with 1.3 this rank is the fullest one in every layer, with experts that
// are unequal themselves.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "core/tensor.h"
#include "distributed/rehearsal_communicator.h"

namespace lacuna {

struct ChoiceDistribution {
  int64_t num_experts = 0;
  int64_t experts_per_token = 0;
  int64_t ranks = 1;   // of the group
  int64_t tokens = 0;  // of a rank in a micro-batch
  int64_t chunks = 1;  // in which they travel
  double balance = 1;
  uint64_t seed = 0;

  // Choices that a rank gets where all get the same.
  double even_share() const {
    return static_cast<double>(tokens) * static_cast<double>(experts_per_token);
  }
  // A configuration error where no distribution gives this rank so much.
  absl::Status Validate() const;
};

class ReceivedChoices : public AbsentPeers {
 public:
  // `draws` of them are made, and used in turn, one for each exchange of counts; `device` and
  // `weights` (a type) are those of the exchanged tensors.
  ReceivedChoices(const ChoiceDistribution& distribution, int64_t draws, Device device,
                  DType weights);

  bool Receive(const Tensor& in, const std::vector<int64_t>& send_rows, Tensor& out,
               const std::vector<int64_t>& receive_rows) override;

  struct Draw {
    std::vector<int64_t> rows;     // by chunk and source
    std::vector<int64_t> choices;  // by source
    Tensor ids;                    // [S, K] as moe/rank_rows.h sends them, -1 where none is here
    Tensor weights;                // [S, K]: 1 / K, 0 where no expert is
    int64_t num_rows = 0, num_choices = 0;
    int64_t fullest_expert = 0;  // its choices
  };
  const std::vector<Draw>& draws() const { return draws_; }
  // Device memory of all draws, which training would not need.
  int64_t bytes() const;

 private:
  Draw Make(const ChoiceDistribution& distribution, double factor, uint64_t number) const;

  Device device_;
  DType weights_;
  int64_t chunks_;
  std::vector<Draw> draws_;
  // The recomputed forward of a layer receives what its first forward was told of: rows name a draw.
  std::map<std::vector<int64_t>, size_t> by_rows_;
  size_t next_ = 0;
  const Draw* ids_came_ = nullptr;  // the weights of the same rows are next
};

}  // namespace lacuna
