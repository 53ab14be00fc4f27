// Token shards: documents as token ids in one HDF5 file, verified when opened and read through
// memory.
//
//   /tokens       [n] u16 where vocab_size <= 65536, else u32; the documents one after the other,
//     each with its end-of-document token
//   /doc_offsets  [D + 1] i64, first 0, last n: document d is tokens [doc_offsets[d], doc_offsets[d
//                 + 1])
//   /doc_bytes    [D] i64, bytes of each document's text
//   /token_bytes  [vocab_size] u16, bytes of text that a token stands for; 0 for control tokens
//   /loss_mask    [n] u8, optional: 0 where the token is no target (a prompt), else 1
//   /block_hashes/<dataset>  [blocks] u64: XXH3-64 of every 4 MiB of the dataset
//                            (core/io/block_hash.h)
//   attributes of /: format "lacuna.tokens", format_version, vocab_size, eod_id, tokenizer_hash,
//     source, licence, content_hash; of conversations also chat: the template and options that made
//     them (data/chat/chat_template.h), its first word the template's name
//
// The file is sealed (core/io/hdf5_seal.h): its structure is verified before it is parsed.
// content_hash vouches for all of it: XXH3-64 of the other attributes and of every dataset's type,
// length and hash.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "core/io/block_hash.h"
#include "data/mapped_file.h"

namespace lacuna {

inline constexpr int64_t kTokenShardVersion = 2;
// 2^16 ids are the most that u16 holds.
inline constexpr int64_t kLargestShortVocabulary = 65536;

struct TokenShardInfo {
  int64_t vocab_size = 0;
  int64_t eod_id = 0;
  uint64_t tokenizer_hash = 0;
  std::string source;   // where the text is from
  std::string licence;  // of the text
  std::string chat;     // empty: no conversations
  uint64_t content_hash = 0;
};

class TokenShard {
 public:
  // Reads the whole file once. A data error (one line: file, dataset, what was found, what is
  // allowed) where the file's seal does not hold, it is no token shard of this version, a dataset
  // has another type, rank or length, a block's hash differs, offsets are not in order or a token
  // id is not below vocab_size.
  static absl::StatusOr<TokenShard> Open(const std::string& path);

  const std::string& path() const { return path_; }
  const TokenShardInfo& info() const { return info_; }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return static_cast<int64_t>(document_bytes_.size()); }

  std::span<const int64_t> document_offsets() const { return document_offsets_; }  // [D + 1]
  std::span<const int64_t> document_bytes() const { return document_bytes_; }      // [D]
  std::span<const uint16_t> token_bytes() const { return token_bytes_; }           // [vocab_size]
  std::span<const uint8_t> loss_mask() const {
    return loss_mask_;
  }  // [num_tokens], or empty: every token counts

  int32_t Token(int64_t i) const {
    return wide_ ? static_cast<int32_t>(Wide()[i]) : static_cast<int32_t>(Short()[i]);
  }
  // Tokens [begin, begin + count).
  void Read(int64_t begin, int64_t count, int32_t* out) const;

 private:
  TokenShard() = default;
  const uint16_t* Short() const { return static_cast<const uint16_t*>(tokens_); }
  const uint32_t* Wide() const { return static_cast<const uint32_t*>(tokens_); }
  absl::Status CheckContents() const;
  absl::Status CheckTokens() const;

  std::string path_;
  MappedFile file_;
  TokenShardInfo info_;
  bool wide_ = false;
  const void* tokens_ = nullptr;
  int64_t num_tokens_ = 0;
  std::span<const int64_t> document_offsets_;
  std::span<const int64_t> document_bytes_;
  std::span<const uint16_t> token_bytes_;
  std::span<const uint8_t> loss_mask_;
};

// The text whose XXH3-64 is content_hash: attributes, then one line for every dataset in the order
// they are added.
class ContentHash {
 public:
  explicit ContentHash(const TokenShardInfo& info);
  void AddDataset(const std::string& name, const char* type, int64_t elements, uint64_t root);
  uint64_t Finish() const;

 private:
  std::string text_;
};

}  // namespace lacuna
