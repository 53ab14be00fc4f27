// Sums over ranks as messages, added in rank order.
#pragma once

#include "core/tensor.h"
#include "distributed/message_operation.h"

namespace lacuna {

// Post the first messages of the collective (distributed/communicator.h) on `operation`; arguments
// are checked and there is more than one rank.
void PostAllReduceSum(MessageOperation& operation, const Transport& transport, Tensor tensor);
void PostReduceScatterSum(MessageOperation& operation, const Transport& transport, Tensor in,
                          Tensor out);

}  // namespace lacuna
