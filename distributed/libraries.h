// Which libraries carry the ranks' messages, for people who compare machines.
#pragma once

#include <string>

namespace lacuna {

// "Open MPI v4.1.4".
std::string MpiLibrary();
// "2.28.3"; empty in a build without NCCL.
std::string NcclVersion();

}  // namespace lacuna
