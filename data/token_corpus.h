// The token shards of one source or validation set, as one list of documents.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/token_shard.h"

namespace lacuna {

// Rows [begin, begin + length) of a document of a corpus.
struct Fragment {
  int64_t document = 0;
  int64_t begin = 0;
  int64_t length = 0;

  bool operator==(const Fragment&) const = default;
};

// What shards must fit.
struct CorpusRequirements {
  int64_t vocab_size = 0;  // of the model: a shard's vocabulary may not be larger
  uint64_t tokenizer_hash = 0;
};

// A shard, all *.h5 of a folder, or those that a glob matches; sorted. A data error where there are
// none.
absl::StatusOr<std::vector<std::string>> FindShards(const std::string& path);

class TokenCorpus {
 public:
  TokenCorpus() = default;
  // Opens and verifies all shards, in parallel, and appends one line to `problems` for each that
  // cannot be used (then the corpus is not to be used either).
  static TokenCorpus Open(const std::string& path, const CorpusRequirements& requirements,
                          std::vector<std::string>* problems);

  const std::vector<TokenShard>& shards() const { return shards_; }
  int64_t num_documents() const { return document_bases_.back(); }
  int64_t num_tokens() const { return token_bases_.back(); }
  int32_t eod_id() const { return static_cast<int32_t>(shards_.front().info().eod_id); }
  // Of the contents of all shards, in order.
  uint64_t fingerprint() const;

  // A document's place: its shard, its number and the number of its first token there.
  struct Place {
    const TokenShard* shard = nullptr;
    int64_t number = 0;
    int64_t begin = 0;
    int64_t length = 0;
  };
  Place Find(int64_t document) const;
  // The document that holds token `position` of all the corpus' tokens in order, and the token's
  // number in it (length: 1).
  Fragment FindToken(int64_t position) const;

 private:
  std::vector<TokenShard> shards_;
  std::vector<int64_t> document_bases_{0};  // first document of each shard; then their number
  std::vector<int64_t> token_bases_{0};
};

// A data error of all the problems; OK for none. Several stand on a line each, below a line that
// counts them.
absl::Status ProblemsError(const std::vector<std::string>& problems);

}  // namespace lacuna
