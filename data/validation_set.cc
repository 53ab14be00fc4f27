#include "data/validation_set.h"

#include <algorithm>

#include "core/error.h"
#include "data/batch_builder.h"

namespace lacuna {
namespace {

// The fragments of tokens [begin, end) of all the corpus' tokens in order.
std::vector<Fragment> FragmentsOf(const TokenCorpus& corpus, int64_t begin, int64_t end) {
  std::vector<Fragment> fragments;
  while (begin < end) {
    Fragment fragment = corpus.FindToken(begin);
    fragment.length = std::min(end - begin, corpus.Find(fragment.document).length - fragment.begin);
    begin += fragment.length;
    fragments.push_back(fragment);
  }
  return fragments;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ValidationSet>> ValidationSet::Open(const ValidationConfig& config,
                                                                   int64_t sequence_length,
                                                                   int64_t vocab_size,
                                                                   uint64_t tokenizer_hash) {
  LACUNA_CHECK(sequence_length > 0, "samples of {} tokens", sequence_length);
  std::unique_ptr<ValidationSet> set(new ValidationSet());
  std::vector<std::string> problems;
  set->name_ = config.name;
  set->sequence_length_ = sequence_length;
  set->corpus_ = TokenCorpus::Open(config.path, {vocab_size, tokenizer_hash}, &problems);
  LACUNA_RETURN_IF_ERROR(ProblemsError(problems));
  return set;
}

int64_t ValidationSet::num_samples() const {
  return (corpus_.num_tokens() + sequence_length_ - 1) / sequence_length_;
}

std::vector<Fragment> ValidationSet::Sample(int64_t sample) const {
  LACUNA_CHECK(sample >= 0 && sample < num_samples(), "{}: sample {} of {}", name_, sample,
               num_samples());
  return FragmentsOf(corpus_, sample * sequence_length_,
                     std::min((sample + 1) * sequence_length_, corpus_.num_tokens()));
}

absl::StatusOr<Batch> ValidationSet::Load(const std::vector<int64_t>& samples) const {
  BatchBuilder builder(static_cast<int64_t>(samples.size()), sequence_length_, 1);
  for (const int64_t sample : samples) builder.AddSample(corpus_, Sample(sample), 0, sample);
  return builder.Finish();
}

int64_t ValidationSet::BytesOf(int64_t sample) const {
  BatchBuilder builder(1, sequence_length_, 1);
  builder.AddSample(corpus_, Sample(sample), 0, sample);
  const Batch batch = builder.Finish();
  // One tokenizer made all shards of a corpus, so the first one's lengths hold for all.
  const auto token_bytes = corpus_.shards().front().token_bytes();
  const int32_t* targets = batch.targets.data<int32_t>();
  int64_t bytes = 0;
  for (int64_t i = 0; i < batch.targets.numel(); ++i) {
    if (targets[i] >= 0) bytes += token_bytes[static_cast<size_t>(targets[i])];
  }
  return bytes;
}

}  // namespace lacuna
