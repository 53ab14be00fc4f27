#include "data/token_shard_writer.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"

namespace lacuna {

absl::Status TokenShardWriter::Spool::Open(const std::string& path) {
  LACUNA_ASSIGN_OR_RETURN(file, FileDescriptor::Create(path, ExitCode::kData));
  // Without a name nothing is left behind, however the program ends.
  ::unlink(path.c_str());
  return absl::OkStatus();
}

absl::Status TokenShardWriter::Spool::Append(const void* data, int64_t size) {
  hasher.Update(data, size);
  LACUNA_RETURN_IF_ERROR(file.WriteAt(bytes, data, size));
  bytes += size;
  return absl::OkStatus();
}

absl::StatusOr<TokenShardWriter> TokenShardWriter::Create(const std::string& path,
                                                          const TokenShardInfo& info,
                                                          std::vector<uint16_t> token_bytes) {
  LACUNA_CHECK(info.vocab_size >= 1 && info.vocab_size <= INT32_MAX && info.eod_id >= 0 &&
                   info.eod_id < info.vocab_size,
               "token shard with vocab_size {} and eod_id {}", info.vocab_size, info.eod_id);
  LACUNA_CHECK(static_cast<int64_t>(token_bytes.size()) == info.vocab_size,
               "{} token lengths for a vocabulary of {}", token_bytes.size(), info.vocab_size);
  TokenShardWriter writer;
  writer.path_ = path;
  writer.info_ = info;
  writer.token_bytes_ = std::move(token_bytes);
  writer.wide_ = info.vocab_size > kLargestShortVocabulary;
  LACUNA_RETURN_IF_ERROR(writer.tokens_.Open(fmt::format("{}.tokens.{}", path, ::getpid())));
  return writer;
}

absl::Status TokenShardWriter::AddDocument(std::span<const int32_t> tokens, int64_t text_bytes,
                                           std::span<const uint8_t> loss_mask) {
  for (const int32_t token : tokens) {
    LACUNA_CHECK(token >= 0 && token < info_.vocab_size, "token {} with a vocabulary of {}", token,
                 info_.vocab_size);
  }
  const bool masked = mask_.file.get() >= 0;
  LACUNA_CHECK(loss_mask.empty() || loss_mask.size() == tokens.size(),
               "loss mask of {} for {} tokens", loss_mask.size(), tokens.size());
  LACUNA_CHECK(num_tokens() == 0 || tokens.empty() || masked == !loss_mask.empty(),
               "{}: some documents have a loss mask, others not", path_);
  const auto count = static_cast<int64_t>(tokens.size());
  if (!loss_mask.empty()) {
    if (!masked) LACUNA_RETURN_IF_ERROR(mask_.Open(fmt::format("{}.mask.{}", path_, ::getpid())));
    LACUNA_RETURN_IF_ERROR(mask_.Append(loss_mask.data(), count));
  }
  if (wide_) {
    LACUNA_RETURN_IF_ERROR(tokens_.Append(tokens.data(), 4 * count));
  } else {
    short_buffer_.resize(tokens.size());
    std::transform(tokens.begin(), tokens.end(), short_buffer_.begin(),
                   [](int32_t token) { return static_cast<uint16_t>(token); });
    LACUNA_RETURN_IF_ERROR(tokens_.Append(short_buffer_.data(), 2 * count));
  }
  offsets_.push_back(num_tokens() + count);
  document_bytes_.push_back(text_bytes);
  return absl::OkStatus();
}

absl::Status TokenShardWriter::CopySpool(Spool& spool, const std::string& dataset,
                                         Hdf5Writer& writer) const {
  std::vector<char> buffer(static_cast<size_t>(std::min(spool.bytes, kHashBlockBytes)));
  for (int64_t at = 0; at < spool.bytes; at += kHashBlockBytes) {
    const int64_t size = std::min(kHashBlockBytes, spool.bytes - at);
    LACUNA_RETURN_IF_ERROR(spool.file.ReadAt(at, buffer.data(), size));
    LACUNA_RETURN_IF_ERROR(writer.Write(dataset, at, buffer.data(), size));
  }
  return absl::OkStatus();
}

absl::Status TokenShardWriter::Finish() {
  LACUNA_CHECK(num_tokens() > 0, "{}: a token shard without tokens", path_);
  const std::string temporary = fmt::format("{}.tmp.{}", path_, ::getpid());
  LACUNA_ASSIGN_OR_RETURN(Hdf5Writer writer, Hdf5Writer::Create(temporary, ExitCode::kData));
  struct Part {
    const char* name;
    Hdf5Type type;
    const void* data;  // null: from a spool
    int64_t count;
    BlockHashes hashes;
  };
  const auto in_memory = [](const char* name, Hdf5Type type, const auto& values) {
    const auto count = static_cast<int64_t>(values.size());
    return Part{name, type, values.data(), count, HashBytes(values.data(), count * SizeOf(type))};
  };
  std::vector<Part> parts;
  parts.push_back({"tokens", wide_ ? Hdf5Type::kU32 : Hdf5Type::kU16, nullptr, num_tokens(),
                   tokens_.hasher.Finish()});
  parts.push_back(in_memory("doc_offsets", Hdf5Type::kI64, offsets_));
  parts.push_back(in_memory("doc_bytes", Hdf5Type::kI64, document_bytes_));
  parts.push_back(in_memory("token_bytes", Hdf5Type::kU16, token_bytes_));
  if (mask_.bytes > 0)
    parts.push_back({"loss_mask", Hdf5Type::kU8, nullptr, num_tokens(), mask_.hasher.Finish()});

  ContentHash content(info_);
  for (const Part& part : parts) {
    writer.AddDataset(part.name, part.type, {part.count});
    writer.AddDataset(std::string("block_hashes/") + part.name, Hdf5Type::kU64,
                      {static_cast<int64_t>(part.hashes.blocks.size())});
    content.AddDataset(part.name, NameOf(part.type), part.count, part.hashes.Root());
  }
  writer.SetAttribute("/", "format", std::string("lacuna.tokens"));
  writer.SetAttribute("/", "format_version", kTokenShardVersion);
  writer.SetAttribute("/", "vocab_size", info_.vocab_size);
  writer.SetAttribute("/", "eod_id", info_.eod_id);
  writer.SetAttribute("/", "tokenizer_hash", ToHex(info_.tokenizer_hash));
  writer.SetAttribute("/", "source", info_.source);
  writer.SetAttribute("/", "licence", info_.licence);
  if (!info_.chat.empty()) writer.SetAttribute("/", "chat", info_.chat);
  writer.SetAttribute("/", "content_hash", ToHex(content.Finish()));

  const auto write = [&]() -> absl::Status {
    LACUNA_RETURN_IF_ERROR(writer.Seal());
    for (const Part& part : parts) {
      const auto hash_bytes = static_cast<int64_t>(8 * part.hashes.blocks.size());
      LACUNA_RETURN_IF_ERROR(writer.Write(std::string("block_hashes/") + part.name, 0,
                                          part.hashes.blocks.data(), hash_bytes));
      if (part.data != nullptr)
        LACUNA_RETURN_IF_ERROR(
            writer.Write(part.name, 0, part.data, part.count * SizeOf(part.type)));
    }
    LACUNA_RETURN_IF_ERROR(CopySpool(tokens_, "tokens", writer));
    if (mask_.bytes > 0) LACUNA_RETURN_IF_ERROR(CopySpool(mask_, "loss_mask", writer));
    LACUNA_RETURN_IF_ERROR(writer.Close());
    LACUNA_RETURN_IF_ERROR(RenamePath(temporary, path_, ExitCode::kData));
    const std::string folder = std::filesystem::path(path_).parent_path().string();
    return FsyncDirectory(folder.empty() ? "." : folder, ExitCode::kData);
  };
  const absl::Status status = write();
  if (!status.ok()) ::unlink(temporary.c_str());
  return status;
}

}  // namespace lacuna
