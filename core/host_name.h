// The name of this machine, as it calls itself.
#pragma once

#include <string>

namespace lacuna {

std::string HostName();  // "?" where it has none

}  // namespace lacuna
