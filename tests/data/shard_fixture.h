// Small token shards for tests.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "core/status.h"
#include "data/token_shard_writer.h"

namespace lacuna::test {

inline constexpr int64_t kVocabulary = 1000;
inline constexpr uint64_t kTokenizerHash = 0x1234;
inline constexpr int32_t kEod = 0;

// Token t stands for t % 7 bytes; the end of a document for none.
inline std::vector<uint16_t> TokenBytes(int64_t vocabulary = kVocabulary) {
  std::vector<uint16_t> bytes(static_cast<size_t>(vocabulary));
  for (size_t t = 0; t < bytes.size(); ++t) bytes[t] = static_cast<uint16_t>(t == kEod ? 0 : t % 7);
  return bytes;
}

inline TokenShardInfo ShardInfo(int64_t vocabulary = kVocabulary) {
  TokenShardInfo info;
  info.vocab_size = vocabulary;
  info.eod_id = kEod;
  info.tokenizer_hash = kTokenizerHash;
  info.source = "test";
  info.licence = "CC0";
  return info;
}

using Documents = std::vector<std::vector<int32_t>>;

// Documents of these lengths (the end-of-document token is the last of them), tokens counted up
// from `first` through the vocabulary.
inline Documents CountedDocuments(const std::vector<int64_t>& lengths, int32_t first = 1) {
  Documents documents;
  int32_t next = first;
  for (const int64_t length : lengths) {
    documents.emplace_back();
    for (int64_t i = 0; i + 1 < length; ++i) {
      documents.back().push_back(next);
      next = next + 1 < kVocabulary ? next + 1 : 1;
    }
    if (length > 0) documents.back().push_back(kEod);
  }
  return documents;
}

inline void WriteShard(const std::string& path, const Documents& documents,
                       const TokenShardInfo& info = ShardInfo(),
                       const std::vector<std::vector<uint8_t>>& masks = {}) {
  auto writer = TokenShardWriter::Create(path, info, TokenBytes(info.vocab_size));
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (size_t d = 0; d < documents.size(); ++d) {
    const auto mask = masks.empty() ? std::span<const uint8_t>() : std::span(masks[d]);
    const absl::Status status =
        writer->AddDocument(documents[d], static_cast<int64_t>(documents[d].size()), mask);
    ASSERT_TRUE(status.ok()) << status;
  }
  const absl::Status status = writer->Finish();
  ASSERT_TRUE(status.ok()) << status;
}

}  // namespace lacuna::test
