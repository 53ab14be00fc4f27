// Rows on their way between ranks, while something else is computed.
#pragma once

#include <utility>

#include "distributed/communicator.h"

namespace lacuna {

struct MovingRows {
  Tensor sent, received;  // neither may be touched before they arrive
  Request request;

  // What was received; nothing is left here.
  Tensor Arrive() {
    MovingRows arrived = std::move(*this);
    arrived.request.Wait();
    return std::move(arrived.received);
  }
};

}  // namespace lacuna
