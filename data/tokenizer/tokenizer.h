// Byte-level BPE tokenizers in Hugging Face's format (tokenizer.json): text to token ids and back.
//
// What is read (anything else is refused by name, never ignored):
//   model          BPE over GPT-2's byte alphabet; merges as "a b" or ["a", "b"]; ignore_merges; no
//     dropout, prefix or suffix
//   normalizer     null, NFC, NFD, NFKC, NFKD, Sequence
//   pre_tokenizer  ByteLevel, Split, Digits, Sequence; ByteLevel last
//   post_processor null, ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing, Sequence:
//                  kept in the file and not applied, like truncation and padding; a document gets
//                  no other tokens than its own
//   decoder        ByteLevel
// Ids equal those of the `tokenizers` library: pattern semantics are Oniguruma's
// (data/tokenizer/pattern.h); merges go by lowest rank, then leftmost.
//
//   LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load("tokenizer.json"));
//   std::vector<int32_t> ids;
//   LACUNA_RETURN_IF_ERROR(tokenizer.Encode(document, &ids));
//   ids.push_back(tokenizer.eod_id());
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace lacuna {

// What becomes of a special token's string ("<|endoftext|>") that stands in the text. Added tokens
// that are not special are part of the vocabulary and always found.
enum class SpecialTokens {
  kAsText,  // encoded like any other text: a document cannot forge its own end
  kParse,   // becomes the token's id, as in the `tokenizers` library's default
};

// Immutable; copies share their state. All functions may be called from several threads at once.
class Tokenizer {
 public:
  // Errors are DataErrors naming the file and the place in it.
  static absl::StatusOr<Tokenizer> Load(const std::string& path);
  // `name` stands for the file in messages.
  static absl::StatusOr<Tokenizer> FromJson(std::string_view text, const std::string& name);
  // Merges are written as "a b", which old and new readers of the format accept.
  absl::Status Save(const std::string& path) const;

  // Appends the ids of `text`. Text that is not UTF-8 is an error naming the first bad byte (then
  // `ids` is as it was).
  absl::Status Encode(std::string_view text, std::vector<int32_t>* ids,
                      SpecialTokens specials = SpecialTokens::kAsText) const;
  // The bytes of the tokens, special ones too. A sequence cut inside a character gives cut UTF-8;
  // an id without a token, as a model with a padded vocabulary may sample, gives U+FFFD.
  std::string Decode(absl::Span<const int32_t> ids) const;

  // One more than the largest id.
  int64_t vocab_size() const;
  // Of an added token, special or not.
  std::optional<int32_t> AddedTokenId(std::string_view token) const;
  std::optional<int32_t> SpecialId(std::string_view token) const;
  bool IsSpecial(int32_t id) const;
  // The token after each document: the first of "<|endoftext|>", "<|end_of_text|>",
  // "<｜end▁of▁sentence｜>", "</s>" that is an added token. A tokenizer without any is refused when
  // it is loaded.
  int32_t eod_id() const;
  // XXH3-64 of what Save writes: equal for a file and its re-saved copy, whatever the white space
  // and the form of its merges.
  uint64_t hash() const;

 private:
  struct State;
  explicit Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  std::shared_ptr<const State> state_;
};

}  // namespace lacuna
