#include "data/token_shard.h"

#include <algorithm>
#include <vector>

#include "core/io/hdf5_file.h"

namespace lacuna {
namespace {

absl::StatusOr<Hdf5Reader> OpenFile(const std::string& path) {
  absl::StatusOr<Hdf5Reader> reader = Hdf5Reader::Open(path, ExitCode::kData);
  if (!IsUnsealed(reader.status())) return reader;
  return DataError("{}; if it is a token shard of format version 1, run `lacuna prepare` again",
                   Message(reader.status()));
}

absl::StatusOr<TokenShardInfo> ReadInfo(const Hdf5Reader& reader) {
  const std::string& path = reader.path();
  const auto format = reader.StringAttribute("/", "format");
  if (!format.ok() || *format != "lacuna.tokens") {
    return DataError("{}: is no token shard (its attribute format must be \"lacuna.tokens\")",
                     path);
  }
  LACUNA_ASSIGN_OR_RETURN(const int64_t version, reader.IntAttribute("/", "format_version"));
  if (version != kTokenShardVersion) {
    return DataError("{}: token shard of format version {}, this program reads version {}: {}",
                     path, version, kTokenShardVersion,
                     version < kTokenShardVersion ? "run `lacuna prepare` again"
                                                  : "written by a newer lacuna, use that one");
  }
  TokenShardInfo info;
  LACUNA_ASSIGN_OR_RETURN(info.vocab_size, reader.IntAttribute("/", "vocab_size"));
  LACUNA_ASSIGN_OR_RETURN(info.eod_id, reader.IntAttribute("/", "eod_id"));
  LACUNA_ASSIGN_OR_RETURN(info.source, reader.StringAttribute("/", "source"));
  LACUNA_ASSIGN_OR_RETURN(info.licence, reader.StringAttribute("/", "licence"));
  // A chat attribute that cannot be read is one that content_hash misses.
  if (auto chat = reader.StringAttribute("/", "chat"); chat.ok()) info.chat = *std::move(chat);
  for (const auto& [name, hash] : {std::pair{"tokenizer_hash", &info.tokenizer_hash},
                                   std::pair{"content_hash", &info.content_hash}}) {
    LACUNA_ASSIGN_OR_RETURN(const std::string text, reader.StringAttribute("/", name));
    if (!FromHex(text, hash))
      return DataError("{}: attribute {} = \"{}\", must be 16 hexadecimal digits", path, name,
                       text);
  }
  if (info.vocab_size < 1 || info.vocab_size > INT32_MAX || info.eod_id < 0 ||
      info.eod_id >= info.vocab_size) {
    return DataError("{}: vocab_size = {} and eod_id = {}, must be 0 <= eod_id < vocab_size < 2^31",
                     path, info.vocab_size, info.eod_id);
  }
  return info;
}

// Address of a dataset's bytes in `file`, checked for type and rank; hashed blocks are compared
// with those the file lists.
class DatasetMapper {
 public:
  DatasetMapper(const Hdf5Reader& reader, const MappedFile& file, const TokenShardInfo& info)
      : reader_(reader), file_(file), content_(info) {}

  // length < 0: any.
  template <class T>
  absl::StatusOr<std::span<const T>> Map(const std::string& name, Hdf5Type type, int64_t length) {
    LACUNA_ASSIGN_OR_RETURN(const Hdf5Dataset dataset, reader_.Find(name));
    const std::string where = fmt::format("{}:/{}", reader_.path(), name);
    if (dataset.type != type)
      return DataError("{}: holds {}, must be {}", where, NameOf(dataset.type), NameOf(type));
    if (dataset.shape.size() != 1)
      return DataError("{}: has {} dimensions, must be 1", where, dataset.shape.size());
    if (length >= 0 && dataset.numel() != length)
      return DataError("{}: has {} elements, must be {}", where, dataset.numel(), length);
    if (dataset.bytes > 0 && (dataset.offset < 0 || dataset.offset % SizeOf(type) != 0)) {
      return DataError("{}: is chunked or unaligned, must be contiguous", where);
    }
    if (dataset.bytes > 0 && dataset.offset > file_.bytes() - dataset.bytes)
      return DataError("{}: reaches behind the file's end", where);
    const char* begin = file_.data() + (dataset.bytes > 0 ? dataset.offset : 0);
    LACUNA_RETURN_IF_ERROR(Verify(where, name, begin, dataset));
    return std::span<const T>(reinterpret_cast<const T*>(begin),
                              static_cast<size_t>(dataset.numel()));
  }

  uint64_t content_hash() const { return content_.Finish(); }

 private:
  absl::Status Verify(const std::string& where, const std::string& name, const char* begin,
                      const Hdf5Dataset& dataset) {
    LACUNA_ASSIGN_OR_RETURN(const Hdf5Dataset list, reader_.Find("block_hashes/" + name));
    const BlockHashes found = HashBytes(begin, dataset.bytes);
    const auto blocks = static_cast<int64_t>(found.blocks.size());
    if (list.type != Hdf5Type::kU64 || list.shape.size() != 1 || list.numel() != blocks) {
      return DataError("{}: /block_hashes/{} must be [{}] u64", reader_.path(), name, blocks);
    }
    std::vector<uint64_t> expected(found.blocks.size());
    LACUNA_RETURN_IF_ERROR(reader_.Read(list, 0, blocks, expected.data()));
    int64_t damaged = 0, first = -1;
    for (int64_t b = blocks - 1; b >= 0; --b) {
      if (expected[static_cast<size_t>(b)] == found.blocks[static_cast<size_t>(b)]) continue;
      ++damaged;
      first = b;
    }
    if (damaged > 0) {
      return DataError(
          "{}: checksum mismatch in {} of {} blocks of 4 MiB, the first at byte {} of the file",
          where, damaged, blocks, dataset.offset + first * kHashBlockBytes);
    }
    content_.AddDataset(name, NameOf(dataset.type), dataset.numel(), found.Root());
    return absl::OkStatus();
  }

  const Hdf5Reader& reader_;
  const MappedFile& file_;
  ContentHash content_;
};

}  // namespace

ContentHash::ContentHash(const TokenShardInfo& info)
    : text_(fmt::format("lacuna.tokens {}\nvocab_size {}\neod_id {}\ntokenizer_hash {}\nsource {} "
                        "{}\nlicence {} {}\n",
                        kTokenShardVersion, info.vocab_size, info.eod_id,
                        ToHex(info.tokenizer_hash), info.source.size(), info.source,
                        info.licence.size(), info.licence)) {
  if (!info.chat.empty()) text_ += fmt::format("chat {} {}\n", info.chat.size(), info.chat);
}

void ContentHash::AddDataset(const std::string& name, const char* type, int64_t elements,
                             uint64_t root) {
  text_ += fmt::format("{} {} {} {}\n", name, type, elements, ToHex(root));
}

uint64_t ContentHash::Finish() const {
  return XXH3_64bits(text_.data(), text_.size());
}

absl::StatusOr<TokenShard> TokenShard::Open(const std::string& path) {
  LACUNA_ASSIGN_OR_RETURN(const Hdf5Reader reader, OpenFile(path));
  TokenShard shard;
  shard.path_ = path;
  LACUNA_ASSIGN_OR_RETURN(shard.info_, ReadInfo(reader));
  LACUNA_ASSIGN_OR_RETURN(shard.file_, MappedFile::Map(reader.file()));
  DatasetMapper mapper(reader, shard.file_, shard.info_);
  shard.wide_ = shard.info_.vocab_size > kLargestShortVocabulary;
  if (shard.wide_) {
    LACUNA_ASSIGN_OR_RETURN(const auto tokens, mapper.Map<uint32_t>("tokens", Hdf5Type::kU32, -1));
    shard.tokens_ = tokens.data();
    shard.num_tokens_ = static_cast<int64_t>(tokens.size());
  } else {
    LACUNA_ASSIGN_OR_RETURN(const auto tokens, mapper.Map<uint16_t>("tokens", Hdf5Type::kU16, -1));
    shard.tokens_ = tokens.data();
    shard.num_tokens_ = static_cast<int64_t>(tokens.size());
  }
  LACUNA_ASSIGN_OR_RETURN(shard.document_offsets_,
                          mapper.Map<int64_t>("doc_offsets", Hdf5Type::kI64, -1));
  const auto documents = static_cast<int64_t>(shard.document_offsets_.size()) - 1;
  if (documents < 1 || shard.num_tokens_ < 1) return DataError("{}: holds no documents", path);
  LACUNA_ASSIGN_OR_RETURN(shard.document_bytes_,
                          mapper.Map<int64_t>("doc_bytes", Hdf5Type::kI64, documents));
  LACUNA_ASSIGN_OR_RETURN(shard.token_bytes_, mapper.Map<uint16_t>("token_bytes", Hdf5Type::kU16,
                                                                   shard.info_.vocab_size));
  if (reader.datasets().count("loss_mask") != 0) {
    LACUNA_ASSIGN_OR_RETURN(shard.loss_mask_,
                            mapper.Map<uint8_t>("loss_mask", Hdf5Type::kU8, shard.num_tokens_));
  }
  if (mapper.content_hash() != shard.info_.content_hash) {
    return DataError(
        "{}: its attributes or hash lists do not match content_hash {}: the file was changed", path,
        ToHex(shard.info_.content_hash));
  }
  LACUNA_RETURN_IF_ERROR(shard.CheckContents());
  return shard;
}

absl::Status TokenShard::CheckContents() const {
  const auto& offsets = document_offsets_;
  if (offsets.front() != 0 || offsets.back() != num_tokens_) {
    return DataError("{}:/doc_offsets: runs from {} to {}, must run from 0 to {}", path_,
                     offsets.front(), offsets.back(), num_tokens_);
  }
  const auto fall = std::adjacent_find(offsets.begin(), offsets.end(), std::greater<>());
  if (fall != offsets.end()) {
    return DataError("{}:/doc_offsets[{}] = {} lies before the element before it, {}", path_,
                     fall - offsets.begin() + 1, fall[1], fall[0]);
  }
  const auto negative = std::find_if(document_bytes_.begin(), document_bytes_.end(),
                                     [](int64_t bytes) { return bytes < 0; });
  if (negative != document_bytes_.end()) {
    return DataError("{}:/doc_bytes[{}] = {}, must be at least 0", path_,
                     negative - document_bytes_.begin(), *negative);
  }
  return CheckTokens();
}

absl::Status TokenShard::CheckTokens() const {
  const auto check = [&](const auto* tokens) -> absl::Status {
    using T = std::decay_t<decltype(*tokens)>;
    T largest = 0;
    for (int64_t i = 0; i < num_tokens_; ++i) largest = std::max(largest, tokens[i]);
    if (static_cast<int64_t>(largest) < info_.vocab_size) return absl::OkStatus();
    const auto* bad = std::find_if(tokens, tokens + num_tokens_, [&](T token) {
      return static_cast<int64_t>(token) >= info_.vocab_size;
    });
    return DataError("{}:/tokens[{}] = {}, must be below vocab_size {}", path_, bad - tokens, *bad,
                     info_.vocab_size);
  };
  return wide_ ? check(Wide()) : check(Short());
}

void TokenShard::Read(int64_t begin, int64_t count, int32_t* out) const {
  if (wide_) {
    std::copy_n(Wide() + begin, count, out);
  } else {
    std::copy_n(Short() + begin, count, out);
  }
}

}  // namespace lacuna
