// core/card_facts.h's questions to the runtime.
#pragma once

#include "core/device.h"

namespace lacuna {
struct CardFacts;
}

namespace lacuna::cuda {

// All but the peers.
void GetCardFacts(Device device, CardFacts* facts);
bool ReachesPeer(int device, int other);

}  // namespace lacuna::cuda
