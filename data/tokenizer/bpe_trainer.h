// Learns a byte-level BPE vocabulary from documents: the tokens and merges that `tokenizers`'
// BpeTrainer learns from the same words, whatever the number of threads and the order of the
// documents.
//
// Ids: the special tokens in their order, the 256 bytes in the order of their symbols' code points,
// then one token a merge. Each step merges the most frequent adjacent pair, of equally frequent
// ones that of the smallest ids.
//
//   LACUNA_ASSIGN_OR_RETURN(BpeTrainer trainer, BpeTrainer::Create({.vocab_size = 16384}));
//   for (const auto& batch : batches) LACUNA_RETURN_IF_ERROR(trainer.Add(batch));
//   LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, trainer.Train());
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/bytes_hash.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/word_rules.h"

namespace lacuna {

// 64 strings: the end of a document, chat roles, <think>, fill-in-the-middle, what llama.cpp's GLM
// conversion looks for, and spares ("<|reserved_0|>", ...): a token added after training would be
// one the model has never seen a place for.
std::vector<std::string> DefaultSpecialTokens();

struct BpeTrainingOptions {
  int64_t vocab_size = 0;  // in all; fewer where the text has too few pairs
  WordRules words = *FindWordRules("llama3");
  std::vector<std::string> special_tokens = DefaultSpecialTokens();
  int64_t min_frequency = 2;  // of a pair that is merged
};

class BpeTrainer {
 public:
  // ConfigErrors name the option, its value and what is allowed.
  static absl::StatusOr<BpeTrainer> Create(const BpeTrainingOptions& options);

  // Counts the words of `documents` (normalised), in parallel over runs of documents. A document that is not
  // UTF-8 is a DataError naming its place in the list and the byte. Special tokens' strings count
  // as text.
  absl::Status Add(const std::vector<std::string_view>& documents);
  absl::StatusOr<Tokenizer> Train() const;

  int64_t num_bytes() const { return num_bytes_; }
  int64_t num_distinct_words() const { return static_cast<int64_t>(counts_.size()); }

 private:
  BpeTrainer(BpeTrainingOptions options, PreTokenizer pre_tokenizer)
      : options_(std::move(options)), pre_tokenizer_(std::move(pre_tokenizer)) {}

  BpeTrainingOptions options_;
  PreTokenizer pre_tokenizer_;
  BytesMap<int64_t> counts_;  // of words
  int64_t num_bytes_ = 0;
};

}  // namespace lacuna
