#include "data/batch_builder.h"

#include <xxhash.h>

#include "core/error.h"

namespace lacuna {

BatchBuilder::BatchBuilder(int64_t num_samples, int64_t sequence_length, int64_t num_sources)
    : sequence_length_(sequence_length),
      tokens_per_source_(static_cast<size_t>(num_sources), 0),
      num_samples_(num_samples) {
  LACUNA_CHECK(num_samples > 0 && sequence_length > 0 && num_samples * sequence_length <= INT32_MAX,
               "a batch of {} samples of {} rows", num_samples, sequence_length);
  ids_.reserve(static_cast<size_t>(num_samples * sequence_length));
  targets_.reserve(ids_.capacity());
}

void BatchBuilder::AddFragment(const TokenCorpus& corpus, const Fragment& fragment) {
  const TokenCorpus::Place place = corpus.Find(fragment.document);
  LACUNA_CHECK(fragment.begin >= 0 && fragment.length > 0 &&
                   fragment.begin + fragment.length <= place.length,
               "rows [{}, {}) of a document of {} tokens", fragment.begin,
               fragment.begin + fragment.length, place.length);
  const int64_t first = place.begin + fragment.begin;
  const auto row = ids_.size();
  ids_.resize(row + static_cast<size_t>(fragment.length));
  place.shard->Read(first, fragment.length, ids_.data() + row);
  targets_.insert(targets_.end(), ids_.begin() + static_cast<int64_t>(row) + 1, ids_.end());
  const bool ends = fragment.begin + fragment.length == place.length;
  targets_.push_back(ends ? -1 : place.shard->Token(first + fragment.length));
  const auto mask = place.shard->loss_mask();
  for (int64_t i = 0; i < fragment.length - ends; ++i) {
    if (!mask.empty() && mask[static_cast<size_t>(first + i + 1)] == 0) {
      targets_[row + static_cast<size_t>(i)] = -1;
    } else {
      ++num_targets_;
    }
  }
  cu_seqlens_.push_back(static_cast<int32_t>(ids_.size()));
}

void BatchBuilder::AddSample(const TokenCorpus& corpus, std::span<const Fragment> fragments,
                             int64_t source, int64_t number) {
  const size_t begin = ids_.size(), end = begin + static_cast<size_t>(sequence_length_);
  for (const Fragment& fragment : fragments) AddFragment(corpus, fragment);
  LACUNA_CHECK(ids_.size() <= end, "a sample of {} rows, must be at most {}", ids_.size() - begin,
               sequence_length_);
  tokens_per_source_[static_cast<size_t>(source)] += static_cast<int64_t>(ids_.size() - begin);
  source_of_sample_.push_back(source);
  content_hash_ += XXH3_64bits_withSeed(
      ids_.data() + begin, (ids_.size() - begin) * sizeof(ids_[0]), static_cast<uint64_t>(number));
  if (ids_.size() == end) return;
  ids_.resize(end, corpus.eod_id());
  targets_.resize(end, -1);
  cu_seqlens_.push_back(static_cast<int32_t>(end));
}

Batch BatchBuilder::Finish() {
  const int64_t rows = num_samples_ * sequence_length_;
  LACUNA_CHECK(static_cast<int64_t>(ids_.size()) == rows, "a batch of {} rows, must be {}",
               ids_.size(), rows);
  return {.ids = Tensor::FromVector(ids_, {rows}),
          .targets = Tensor::FromVector(targets_, {rows}),
          .sequences = PackedSequences(std::move(cu_seqlens_)),
          .num_target_tokens = num_targets_,
          .tokens_per_source = std::move(tokens_per_source_),
          .source_of_sample = std::move(source_of_sample_),
          .content_hash = content_hash_};
}

}  // namespace lacuna
