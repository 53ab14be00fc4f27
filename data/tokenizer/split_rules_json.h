// The sections normalizer, pre_tokenizer, post_processor and decoder of tokenizer.json. Internal to
// data/tokenizer.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "data/tokenizer/json_reader.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pre_tokenizer.h"

namespace lacuna {

absl::Status ReadNormalizer(const JsonNode& node, std::vector<NormalForm>* forms);
// The rules in order; the step ByteLevel must be there once, last.
absl::Status ReadPreTokenizer(const JsonNode& node, std::vector<SplitRule>* rules);
absl::Status CheckDecoder(const JsonNode& node);
// What is allowed adds tokens around a text, and is not applied (data/tokenizer/tokenizer.h).
absl::Status CheckPostProcessor(const JsonNode& node);

}  // namespace lacuna
