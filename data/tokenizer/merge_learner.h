// The loop of BPE training: from counted words to merges. Internal to data/tokenizer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lacuna {

struct LearnedMerges {
  // by id, in symbols of the byte alphabet; special tokens as they are
  std::vector<std::string> tokens;
  std::vector<std::pair<int32_t, int32_t>> merges;  // by rank, each pair once
};

// words: bytes and how often each occurs, each once. Stops at vocab_size tokens or where no pair
// occurs min_frequency (>= 1) times.
LearnedMerges LearnMerges(const std::vector<std::pair<std::string_view, int64_t>>& words,
                          const std::vector<std::string>& special_tokens, int64_t vocab_size,
                          int64_t min_frequency);

}  // namespace lacuna
