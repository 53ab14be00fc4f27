// lacuna bench cuda, a part of lacuna bench.
#pragma once

#include "tools/command.h"

namespace lacuna::tools {

void AddBenchCudaCommand(CLI::App& bench, Runner& run);

}  // namespace lacuna::tools
