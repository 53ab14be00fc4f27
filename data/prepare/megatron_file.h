// Megatron's indexed data sets: documents as token ids in <name>.bin, found through <name>.idx.
//
//   .idx   0  "MMIDIDX\0\0"
//          9  u64          version, 1
//         17  u8           type of a token: 1 u8, 2 i8, 3 i16, 4 i32, 5 i64, 8 u16
//         18  u64          S, number of sequences
//         26  u64          D + 1, number of document indices
//         34  i32 [S]      tokens of each sequence
//             i64 [S]      byte of the .bin where each begins
//             i64 [D + 1]  document d is sequences [indices[d], indices[d + 1])
//             i8  [S]      modes of the sequences; may be missing, is not used
//   .bin      the sequences' tokens, one sequence behind the other
//
// All numbers are little-endian. Source: Megatron-LM, megatron/core/datasets/indexed_dataset.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "data/mapped_file.h"

namespace lacuna {

class MegatronFile {
 public:
  // `path` ends in .idx. A data error (one line: file, byte, what was found, what is allowed) where
  // a field of the index is wrong, or it does not describe every byte of the .bin once, in order.
  static absl::StatusOr<MegatronFile> Open(const std::string& path);

  const std::string& path() const { return path_; }
  const char* type_name() const;  // "u16"
  int64_t num_sequences() const { return num_sequences_; }
  int64_t num_documents() const { return num_documents_; }
  int64_t num_tokens() const { return tokens_.size_bytes / token_bytes_; }
  // Of document d in [0, num_documents()).
  int64_t DocumentTokens(int64_t d) const { return Begin(d + 1) - Begin(d); }

  // The bytes of document d's first `count` tokens, as they stand in the .bin.
  absl::Status ReadBytes(int64_t d, int64_t count, std::string* bytes) const;
  // Those bytes as ids. A data error naming the byte where one is negative or not below vocab_size.
  absl::Status ParseTokens(int64_t d, std::string_view bytes, int64_t vocab_size,
                           std::vector<int32_t>* tokens) const;

 private:
  struct Tokens {
    FileDescriptor file{-1, "", ExitCode::kData};
    int64_t size_bytes = 0;
  };

  MegatronFile() = default;
  absl::Status CheckHeader();
  absl::Status CheckSequences() const;
  absl::Status CheckDocuments() const;

  template <class T>
  T Field(int64_t byte) const;  // of the index; they are not aligned
  int64_t PointersAt() const { return kHeaderBytes + 4 * num_sequences_; }
  int64_t DocumentsAt() const { return PointersAt() + 8 * num_sequences_; }
  // The token of the .bin with which document d begins; d = num_documents(): the number of tokens.
  int64_t Begin(int64_t d) const;

  static constexpr int64_t kHeaderBytes = 34;

  std::string path_;
  MappedFile index_;
  Tokens tokens_;
  uint8_t type_ = 0;
  int64_t token_bytes_ = 1;
  int64_t num_sequences_ = 0;
  int64_t num_documents_ = 0;
};

}  // namespace lacuna
