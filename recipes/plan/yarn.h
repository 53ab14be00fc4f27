// What a recipe's rotary positions come to: YaRN's resolved factors and frequencies, for people.
#pragma once

#include <string>

#include "nn/model_config.h"

namespace lacuna {

// "YaRN factor 4 from 8,192 to 32,768 tokens: cos and sin times 1.1386; of 32 frequencies 12 are
// kept, 9 blended, 11 divided by 4". Empty for factor 1.
std::string YarnSummary(const ModelConfig& model);

// The inverse frequencies in order, plain and as resolved, one line each.
std::string FrequencyTable(const ModelConfig& model);

}  // namespace lacuna
