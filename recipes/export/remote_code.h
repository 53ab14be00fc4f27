// The PyTorch code of nsa_moe (recipes/export/remote_code/), compiled into the program.
#pragma once

namespace lacuna {

extern const char* const kConfigurationNsaMoe;
extern const char* const kModelingNsaMoe;

}  // namespace lacuna
