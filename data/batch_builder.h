// Puts a batch together from document fragments.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/batch.h"
#include "data/token_corpus.h"

namespace lacuna {

class BatchBuilder {
 public:
  BatchBuilder(int64_t num_samples, int64_t sequence_length, int64_t num_sources);

  // Sample `number` of the stream: its fragments, then padding (end-of-document tokens without
  // targets) up to sequence_length rows.
  void AddSample(const TokenCorpus& corpus, std::span<const Fragment> fragments, int64_t source,
                 int64_t number);
  // After num_samples samples.
  Batch Finish();

 private:
  void AddFragment(const TokenCorpus& corpus, const Fragment& fragment);

  int64_t sequence_length_;
  std::vector<int32_t> ids_, targets_, cu_seqlens_{0};
  std::vector<int64_t> tokens_per_source_, source_of_sample_;
  uint64_t content_hash_ = 0;
  int64_t num_samples_;
  int64_t num_targets_ = 0;
};

}  // namespace lacuna
