// A token shard: what it holds, then some of its documents.
#pragma once

#include <string>

#include "tools/inspect/kind.h"

namespace lacuna::tools {

class ShardView : public InspectKind {
 public:
  std::string name() const override { return "token shard (*.h5)"; }
  std::string example() const override {
    return "inspect shards/train_00000.h5 --tokenizer tokenizer.json --document 12";
  }
  bool Recognises(const std::string& path, std::string_view head) const override;
  void AddOptions(CLI::App& command) override;
  // Every byte of the shard is verified. Errors: TokenShard::Open's and Tokenizer::Load's, a
  // tokenizer that is not the shard's (data), a document that the shard lacks (config).
  absl::Status Show(const InspectOptions& options) const override;

 private:
  int64_t document_ = 0, documents_ = 3;  // the first to show, how many
};

}  // namespace lacuna::tools
