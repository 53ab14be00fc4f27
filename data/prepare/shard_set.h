// The shards of one split: <folder>/<name>_00000.h5 and so on, each of at most a number of tokens
// (or one document).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "data/prepare/prepare.h"
#include "data/token_shard_writer.h"

namespace lacuna {

class ShardSet {
 public:
  ShardSet(std::string folder, std::string name, TokenShardInfo info,
           std::vector<uint16_t> token_bytes, int64_t shard_tokens);
  ShardSet(const ShardSet&) = delete;
  // Removes what Publish did not give its name.
  ~ShardSet();

  // Shards of this name in the folder that are there already.
  absl::StatusOr<std::vector<std::string>> Existing() const;
  // `loss_mask` as in TokenShardWriter::AddDocument.
  absl::Status Add(std::span<const int32_t> tokens, int64_t text_bytes,
                   std::span<const uint8_t> loss_mask = {});
  // Completes the last shard. Until Publish all shards are named <...>.h5.part.
  absl::Status Finish();
  absl::Status Publish();

  const SplitReport& report() const { return report_; }

 private:
  std::string PathOf(int64_t shard) const;

  std::string folder_, name_;
  TokenShardInfo info_;
  std::vector<uint16_t> token_bytes_;
  int64_t shard_tokens_;
  std::optional<TokenShardWriter> writer_;
  int64_t unpublished_ = 0;  // shards begun, named .part
  SplitReport report_;
};

}  // namespace lacuna
