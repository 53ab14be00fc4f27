// Held-out text, scored in order: documents one after the other, cut into samples of
// sequence_length rows, the last one padded.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/batch.h"
#include "data/data_config.h"
#include "data/token_corpus.h"

namespace lacuna {

class ValidationSet {
 public:
  // The same checks and errors as DataLoader::Open.
  static absl::StatusOr<std::unique_ptr<ValidationSet>> Open(const ValidationConfig& config,
                                                             int64_t sequence_length,
                                                             int64_t vocab_size,
                                                             uint64_t tokenizer_hash);

  const std::string& name() const { return name_; }
  int64_t num_samples() const;
  // Samples [0, num_samples()) in any order and grouping. Thread-safe.
  absl::StatusOr<Batch> Load(const std::vector<int64_t>& samples) const;
  // Bytes of the text that the targets of a sample stand for, so that summed loss / (ln 2 * bytes)
  // is in bits per byte and does not depend on the tokenizer. Exact: the first token of a document
  // is no target, and the end-of-document token has no bytes.
  int64_t BytesOf(int64_t sample) const;

  const TokenCorpus& corpus() const { return corpus_; }

 private:
  ValidationSet() = default;
  std::vector<Fragment> Sample(int64_t sample) const;

  std::string name_;
  int64_t sequence_length_ = 0;
  TokenCorpus corpus_;
};

}  // namespace lacuna
