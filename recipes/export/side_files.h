// The files of an exported folder beside its weights, config.json and reports.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "data/tokenizer/tokenizer.h"
#include "recipes/export/hf_config.h"

namespace lacuna {

// A document starts behind the end of another one, so one token begins and ends it; padding has a
// token of its own where the tokenizer has one.
SpecialIds SpecialIdsOf(const Tokenizer& tokenizer);

// tokenizer.json as it is, tokenizer_config.json, special_tokens_map.json, generation_config.json,
// and chat_template.jinja if there is one.
absl::Status WriteTokenizerFiles(const std::string& folder, const Recipe& recipe,
                                 const Tokenizer& tokenizer, int64_t max_positions);

// configuration_nsa_moe.py and modeling_nsa_moe.py, which the program carries.
absl::Status WriteRemoteCode(const std::string& folder);

// Writes "<folder>/<name>" durably.
absl::Status WriteText(const std::string& folder, const std::string& name, const std::string& text);

}  // namespace lacuna
