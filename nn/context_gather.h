// Keys and values of all ranks of a context group, as a differentiable function in two steps: what is
// done between them runs beside the communication, in forward and in backward.
//   y [N, ...] = the group's x [n, ...], in the micro-batch's order
//   dx         = the sum of the ranks' dy at this rank's rows, in rank order, in the compute type,
//                rounded once
// Every rank of the group begins the same gathers in the same order.
#pragma once

#include <memory>

#include "autograd/tape.h"
#include "nn/context_share.h"

namespace lacuna {

class ContextGather {
 public:
  // `share` must live until the tape's backward is done.
  ContextGather(Tape& tape, const ContextShare& share, const Variable& x);
  Variable Finish();

 private:
  struct Journey;

  Tape& tape_;
  std::shared_ptr<Journey> journey_;
  Variable edge_;
};

}  // namespace lacuna
