// The file format of Hugging Face's tokenizers (tokenizer.json), read into plain data and written
// in one canonical form.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe_model.h"
#include "data/tokenizer/bytes_hash.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pre_tokenizer.h"

namespace lacuna {

struct TokenizerDefinition {
  std::vector<std::string> tokens;  // the model's, as bytes, by id; empty where an id is free
  std::array<int32_t, 256> byte_ids;
  std::vector<BpeMerge> merges;   // by rank
  BytesMap<int32_t> whole_words;  // tokens that need no merging (`ignore_merges`); may be empty
  std::vector<NormalForm> normal_forms;
  std::vector<SplitRule> split_rules;
  std::vector<AddedToken> added_tokens;  // in the file's order
  // The document with its keys in the format's order, merges as "a b", a token and a merge per
  // line, everything unread kept.
  std::string canonical;
};

// Errors are DataErrors: `name`, the place in the document, what was found, what is allowed.
absl::StatusOr<TokenizerDefinition> ParseTokenizerJson(std::string_view text,
                                                       const std::string& name);

}  // namespace lacuna
