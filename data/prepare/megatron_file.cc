#include "data/prepare/megatron_file.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/error.h"

namespace lacuna {
namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr uint64_t kVersion = 1;

struct TokenType {
  uint8_t code;
  const char* name;
  int64_t bytes;
};
// 6 and 7 are floats.
constexpr TokenType kTypes[] = {{1, "u8", 1},  {2, "i8", 1},  {3, "i16", 2},
                                {4, "i32", 4}, {5, "i64", 8}, {8, "u16", 2}};

const TokenType* FindType(uint8_t code) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const TokenType& type) { return type.code == code; });
  return found == std::end(kTypes) ? nullptr : found;
}

template <class T>
T Load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

int64_t LoadToken(uint8_t code, const char* bytes) {
  switch (code) {
    case 1:
      return Load<uint8_t>(bytes);
    case 2:
      return Load<int8_t>(bytes);
    case 3:
      return Load<int16_t>(bytes);
    case 4:
      return Load<int32_t>(bytes);
    case 5:
      return Load<int64_t>(bytes);
    default:
      return Load<uint16_t>(bytes);
  }
}

}  // namespace

template <class T>
T MegatronFile::Field(int64_t byte) const {
  return Load<T>(index_.data() + byte);
}

absl::StatusOr<MegatronFile> MegatronFile::Open(const std::string& path) {
  LACUNA_CHECK(path.ends_with(".idx"), "{}: does not end in .idx", path);
  MegatronFile result;
  result.path_ = path;
  LACUNA_ASSIGN_OR_RETURN(const FileDescriptor index,
                          FileDescriptor::OpenRead(path, ExitCode::kData));
  LACUNA_ASSIGN_OR_RETURN(result.index_, MappedFile::Map(index));
  LACUNA_RETURN_IF_ERROR(result.CheckHeader());
  const std::string bin = path.substr(0, path.size() - 4) + ".bin";
  LACUNA_ASSIGN_OR_RETURN(result.tokens_.file, FileDescriptor::OpenRead(bin, ExitCode::kData));
  LACUNA_ASSIGN_OR_RETURN(result.tokens_.size_bytes, result.tokens_.file.Size());
  LACUNA_RETURN_IF_ERROR(result.CheckSequences());
  LACUNA_RETURN_IF_ERROR(result.CheckDocuments());
  return result;
}

const char* MegatronFile::type_name() const {
  return FindType(type_)->name;
}

absl::Status MegatronFile::CheckHeader() {
  const int64_t size = index_.bytes();
  const std::string_view head(index_.data(), static_cast<size_t>(std::min<int64_t>(size, 9)));
  if (size == 0 || !kMagic.starts_with(head))
    return DataError("{}: byte 0: no Megatron index, which begins with \"MMIDIDX\\0\\0\"", path_);
  if (size < kHeaderBytes)
    return DataError("{}: has {} bytes, a Megatron index has at least {}", path_, size,
                     kHeaderBytes);
  if (const auto version = Field<uint64_t>(9); version != kVersion)
    return DataError("{}: byte 9: version {}, must be {}", path_, version, kVersion);
  type_ = Field<uint8_t>(17);
  const TokenType* type = FindType(type_);
  if (type == nullptr) {
    return DataError(
        "{}: byte 17: token type {}, allowed are 1 (u8), 2 (i8), 3 (i16), 4 (i32), 5 (i64), 8 "
        "(u16)",
        path_, type_);
  }
  token_bytes_ = type->bytes;
  const auto sequences = Field<uint64_t>(18), indices = Field<uint64_t>(26);
  const auto bytes = static_cast<uint64_t>(size);
  // In two steps, so that nothing overflows.
  const bool small = sequences <= bytes / 12 && indices <= bytes / 8;
  const uint64_t need = small ? kHeaderBytes + 12 * sequences + 8 * indices : 0;
  if (!small || (bytes != need && bytes != need + sequences)) {
    return DataError(
        "{}: byte 18: {} sequences and {} document indices do not fit in a file of {} bytes{}",
        path_, sequences, indices, size,
        small ? fmt::format(", they take {}, with modes {}", need, need + sequences) : "");
  }
  if (indices == 0)
    return DataError("{}: byte 26: 0 document indices, there must be one more than documents",
                     path_);
  num_sequences_ = static_cast<int64_t>(sequences);
  num_documents_ = static_cast<int64_t>(indices) - 1;
  return absl::OkStatus();
}

// Together with CheckDocuments: each token belongs to exactly one document.
absl::Status MegatronFile::CheckSequences() const {
  int64_t end = 0;
  for (int64_t s = 0; s < num_sequences_; ++s) {
    const int64_t length_at = kHeaderBytes + 4 * s, pointer_at = PointersAt() + 8 * s;
    const auto length = Field<int32_t>(length_at);
    if (length < 0)
      return DataError("{}: byte {}: sequence {} has {} tokens, must be at least 0", path_,
                       length_at, s, length);
    if (const auto pointer = Field<int64_t>(pointer_at); pointer != end) {
      return DataError(
          "{}: byte {}: sequence {} begins at byte {}, must begin at {}, where the one before ends",
          path_, pointer_at, s, pointer, end);
    }
    if (length > (tokens_.size_bytes - end) / token_bytes_) {
      return DataError(
          "{}: sequence {} ({} tokens of {} from byte {} on) ends behind the {} bytes "
          "of {}",
          path_, s, length, type_name(), end, tokens_.size_bytes, tokens_.file.path());
    }
    end += length * token_bytes_;
  }
  if (end != tokens_.size_bytes)
    return DataError("{}: has {} bytes, {} describes {}", tokens_.file.path(), tokens_.size_bytes,
                     path_, end);
  return absl::OkStatus();
}

absl::Status MegatronFile::CheckDocuments() const {
  int64_t previous = 0;
  for (int64_t d = 0; d <= num_documents_; ++d) {
    const int64_t at = DocumentsAt() + 8 * d;
    const auto sequence = Field<int64_t>(at);
    const bool is_end = d == 0 || d == num_documents_;
    const int64_t expected = d == 0 ? 0 : num_sequences_;
    if (is_end && sequence != expected) {
      return DataError("{}: byte {}: the {} document index is sequence {}, must be {}", path_, at,
                       d == 0 ? "first" : "last", sequence, expected);
    }
    if (sequence < previous || sequence > num_sequences_) {
      return DataError("{}: byte {}: document index {} is sequence {}, must be {} to {}", path_, at,
                       d, sequence, previous, num_sequences_);
    }
    previous = sequence;
  }
  return absl::OkStatus();
}

int64_t MegatronFile::Begin(int64_t d) const {
  const auto sequence = Field<int64_t>(DocumentsAt() + 8 * d);
  if (sequence == num_sequences_) return num_tokens();
  return Field<int64_t>(PointersAt() + 8 * sequence) / token_bytes_;
}

absl::Status MegatronFile::ReadBytes(int64_t d, int64_t count, std::string* bytes) const {
  LACUNA_CHECK(d >= 0 && d < num_documents_ && count >= 0 && count <= DocumentTokens(d),
               "{}: {} tokens of document {}", path_, count, d);
  bytes->resize(static_cast<size_t>(count * token_bytes_));
  return tokens_.file.ReadAt(Begin(d) * token_bytes_, bytes->data(), count * token_bytes_);
}

absl::Status MegatronFile::ParseTokens(int64_t d, std::string_view bytes, int64_t vocab_size,
                                       std::vector<int32_t>* tokens) const {
  const int64_t count = static_cast<int64_t>(bytes.size()) / token_bytes_;
  tokens->resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t token = LoadToken(type_, bytes.data() + i * token_bytes_);
    if (token < 0 || token >= vocab_size) {
      return DataError("{}: byte {}: token {} of document {}, the tokenizer has 0 to {}",
                       tokens_.file.path(), (Begin(d) + i) * token_bytes_, token, d,
                       vocab_size - 1);
    }
    (*tokens)[static_cast<size_t>(i)] = static_cast<int32_t>(token);
  }
  return absl::OkStatus();
}

}  // namespace lacuna
