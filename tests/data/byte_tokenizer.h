// A tokenizer.json of the 256 bytes, one merge and an end of document, for tests that need some
// tokenizer.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "data/tokenizer/utf8.h"

namespace lacuna::test {

inline constexpr int32_t kByteEod = 257;

// Byte b has id b; "th" is 256; "<|endoftext|>" is kByteEod.
inline std::string ByteTokenizerJson() {
  nlohmann::ordered_json vocabulary;
  for (int b = 0; b < 256; ++b) vocabulary[ByteSymbol(static_cast<uint8_t>(b))] = b;
  vocabulary["th"] = 256;
  const nlohmann::ordered_json byte_level = {{"type", "ByteLevel"},
                                             {"add_prefix_space", false},
                                             {"trim_offsets", true},
                                             {"use_regex", true}};
  const nlohmann::ordered_json json = {{"version", "1.0"},
                                       {"truncation", nullptr},
                                       {"padding", nullptr},
                                       {"added_tokens",
                                        {{{"id", kByteEod},
                                          {"content", "<|endoftext|>"},
                                          {"single_word", false},
                                          {"lstrip", false},
                                          {"rstrip", false},
                                          {"normalized", false},
                                          {"special", true}}}},
                                       {"normalizer", nullptr},
                                       {"pre_tokenizer", byte_level},
                                       {"post_processor", nullptr},
                                       {"decoder", byte_level},
                                       {"model",
                                        {{"type", "BPE"},
                                         {"dropout", nullptr},
                                         {"unk_token", nullptr},
                                         {"continuing_subword_prefix", nullptr},
                                         {"end_of_word_suffix", nullptr},
                                         {"fuse_unk", false},
                                         {"byte_fallback", false},
                                         {"ignore_merges", false},
                                         {"vocab", vocabulary},
                                         {"merges", {"t h"}}}}};
  return json.dump();
}

}  // namespace lacuna::test
