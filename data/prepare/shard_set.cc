#include "data/prepare/shard_set.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "core/io/file.h"

namespace lacuna {

ShardSet::ShardSet(std::string folder, std::string name, TokenShardInfo info,
                   std::vector<uint16_t> token_bytes, int64_t shard_tokens)
    : folder_(std::move(folder)),
      name_(std::move(name)),
      info_(std::move(info)),
      token_bytes_(std::move(token_bytes)),
      shard_tokens_(shard_tokens) {
  report_.name = name_;
}

ShardSet::~ShardSet() {
  for (int64_t shard = 0; shard < unpublished_; ++shard)
    ::unlink((PathOf(shard) + ".part").c_str());
}

std::string ShardSet::PathOf(int64_t shard) const {
  return fmt::format("{}/{}_{:05}.h5", folder_, name_, shard);
}

absl::StatusOr<std::vector<std::string>> ShardSet::Existing() const {
  LACUNA_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                          ListDirectory(folder_, ExitCode::kData));
  std::vector<std::string> found;
  for (const std::string& name : names) {
    const bool framed =
        name.size() > name_.size() + 4 && name.starts_with(name_ + "_") && name.ends_with(".h5");
    const auto is_digit = [](unsigned char c) { return std::isdigit(c) != 0; };
    if (framed && std::all_of(name.begin() + static_cast<int64_t>(name_.size()) + 1, name.end() - 3,
                              is_digit)) {
      found.push_back(folder_ + "/" + name);
    }
  }
  return found;
}

absl::Status ShardSet::Add(std::span<const int32_t> tokens, int64_t text_bytes,
                           std::span<const uint8_t> loss_mask) {
  const auto count = static_cast<int64_t>(tokens.size());
  if (writer_ && writer_->num_tokens() + count > shard_tokens_) LACUNA_RETURN_IF_ERROR(Finish());
  if (!writer_) {
    const std::string path = PathOf(unpublished_++) + ".part";
    LACUNA_ASSIGN_OR_RETURN(writer_, TokenShardWriter::Create(path, info_, token_bytes_));
  }
  LACUNA_RETURN_IF_ERROR(writer_->AddDocument(tokens, text_bytes, loss_mask));
  ++report_.documents;
  report_.bytes += text_bytes;
  report_.tokens += count;
  report_.loss_tokens +=
      loss_mask.empty() ? count : std::count(loss_mask.begin(), loss_mask.end(), uint8_t{1});
  return absl::OkStatus();
}

absl::Status ShardSet::Finish() {
  if (!writer_) return absl::OkStatus();
  LACUNA_RETURN_IF_ERROR(writer_->Finish());
  writer_.reset();
  ++report_.shards;
  return absl::OkStatus();
}

absl::Status ShardSet::Publish() {
  for (int64_t shard = 0; shard < unpublished_; ++shard) {
    LACUNA_RETURN_IF_ERROR(RenamePath(PathOf(shard) + ".part", PathOf(shard), ExitCode::kData));
  }
  unpublished_ = 0;
  return FsyncDirectory(folder_, ExitCode::kData);
}

}  // namespace lacuna
