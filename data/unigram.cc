#include "data/unigram.h"

#include <cmath>
#include <limits>

#include "core/error.h"

namespace lacuna {

void UnigramModel::Count(const TokenCorpus& corpus) {
  for (const TokenShard& shard : corpus.shards()) {
    const auto vocab_size = static_cast<int64_t>(counts_.size());
    LACUNA_CHECK(shard.info().vocab_size <= vocab_size,
                 "{}: a vocabulary of {}, must be at most {}", shard.path(),
                 shard.info().vocab_size, vocab_size);
    const auto offsets = shard.document_offsets();
    const auto mask = shard.loss_mask();
    for (size_t d = 0; d + 1 < offsets.size(); ++d) {
      for (int64_t i = offsets[d] + 1; i < offsets[d + 1]; ++i) {
        if (!mask.empty() && mask[static_cast<size_t>(i)] == 0) continue;
        ++counts_[static_cast<size_t>(shard.Token(i))], ++total_;
      }
    }
  }
}

double UnigramModel::BitsPerByte(const ValidationSet& set) const {
  double bits = 0;
  int64_t bytes = 0;
  for (int64_t sample = 0; sample < set.num_samples(); ++sample) {
    const Batch batch = *set.Load({sample});  // the set is verified: no errors are left
    const int32_t* targets = batch.targets.data<int32_t>();
    for (int64_t i = 0; i < batch.targets.numel(); ++i) {
      if (targets[i] < 0) continue;
      LACUNA_CHECK(targets[i] < static_cast<int64_t>(counts_.size()),
                   "token {} with a vocabulary of {}", targets[i], counts_.size());
      const auto count = static_cast<double>(counts_[static_cast<size_t>(targets[i])] + 1);
      bits -= std::log2(count / static_cast<double>(total_ + static_cast<int64_t>(counts_.size())));
    }
    bytes += set.BytesOf(sample);
  }
  return bytes > 0 ? bits / static_cast<double>(bytes) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace lacuna
