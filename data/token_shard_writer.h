// Writes one token shard (data/token_shard.h), document by document. Tokens go to an unnamed
// temporary file beside the shard while they are hashed; Finish lays the shard out, copies them and
// renames it into place. So memory grows with documents only, and a name ending in .h5 is always a
// complete shard.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/io/block_hash.h"
#include "core/io/hdf5_file.h"
#include "data/token_shard.h"

namespace lacuna {

class TokenShardWriter {
 public:
  // `info.content_hash` is ignored. `token_bytes`: bytes of each token of the vocabulary,
  // info.vocab_size of them.
  static absl::StatusOr<TokenShardWriter> Create(const std::string& path,
                                                 const TokenShardInfo& info,
                                                 std::vector<uint16_t> token_bytes);

  // `tokens` with their end-of-document token; text_bytes of the document's text. `loss_mask`: one
  // for each token, or empty; all documents of a shard have one or none has. A token outside the
  // vocabulary is misuse (lacuna::Error).
  absl::Status AddDocument(std::span<const int32_t> tokens, int64_t text_bytes,
                           std::span<const uint8_t> loss_mask = {});

  const std::string& path() const { return path_; }
  int64_t num_tokens() const { return offsets_.back(); }
  int64_t num_documents() const { return static_cast<int64_t>(document_bytes_.size()); }

  // Makes the shard; it is complete and durable when this returns OK. At least one token must have
  // been added.
  absl::Status Finish();

 private:
  // Bytes put aside in the order they came, hashed on the way.
  struct Spool {
    FileDescriptor file{-1, "", ExitCode::kData};
    int64_t bytes = 0;
    BlockHasher hasher;

    absl::Status Open(const std::string& path);
    absl::Status Append(const void* data, int64_t size);
  };

  TokenShardWriter() = default;
  absl::Status CopySpool(Spool& spool, const std::string& dataset, Hdf5Writer& writer) const;

  std::string path_;
  TokenShardInfo info_;
  std::vector<uint16_t> token_bytes_;
  bool wide_ = false;
  Spool tokens_, mask_;
  std::vector<int64_t> offsets_{0};
  std::vector<int64_t> document_bytes_;
  std::vector<uint16_t> short_buffer_;
};

}  // namespace lacuna
