// The endless stream of training samples of a run.
//
// Sample k is a pure function of (seed, stage, k) and of the shards: which rank asks for it, how
// samples are grouped into batches and what was asked for before play no part, so a checkpoint
// needs only the number of samples consumed, and a run resumes on any number of ranks. k -> source
// by the mixture and its edits (data/mixture_journal.h); the n-th sample of a source is sample n % S of its epoch n / S,
// where S is the number of samples that its tokens fill. Each epoch has its own order of documents,
// its own packing and its own order of samples (data/sample_index.h), and holds every token of the
// source exactly once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/batch.h"
#include "data/data_config.h"
#include "data/mixture_journal.h"
#include "data/sample_index.h"
#include "data/token_corpus.h"

namespace lacuna {

// Where a sample comes from.
struct SampleOrigin {
  int64_t source = 0;             // number of the source, in the order of the recipe
  int64_t epoch = 0;              // of the source, from 0
  int64_t number = 0;             // in the epoch
  int64_t samples_per_epoch = 0;  // of the source
  // What its rows hold, one after the other, documents of the source's corpus; padding follows.
  std::vector<Fragment> fragments;
};

class DataLoader {
 public:
  // Opens and verifies every shard of every source. The data errors, each naming its shard, all at
  // once: a shard that is missing, damaged or has a token id that its vocabulary lacks; one made
  // with another tokenizer than `tokenizer_hash`, or with more tokens than the model's
  // `vocab_size`. `stage` names the part of a training plan (another stage: another order). Where
  // `may_write_cache`, sample indexes are kept in config.cache; a cache that cannot be written
  // costs a warning and the time to build them again.
  static absl::StatusOr<std::unique_ptr<DataLoader>> Open(
      const DataConfig& config, int64_t sequence_length, uint64_t seed, const std::string& stage,
      int64_t vocab_size, uint64_t tokenizer_hash, bool may_write_cache);

  // The samples of these numbers (>= 0), concatenated, and where one is from. Thread-safe. The
  // first sample of an epoch waits for the epoch's index.
  absl::StatusOr<Batch> Load(const std::vector<int64_t>& sample_numbers) const;
  SampleOrigin Origin(int64_t sample_number) const;

  std::vector<std::string> source_names() const;
  // The mix, from sample 0 with the weights of the recipe until another journal is adopted.
  const MixtureJournal& journal() const { return journal_; }
  // The journal of the run's samples so far, `num_samples` of them: from there on the recipe's
  // weights hold. -> a line that says what was edited, or an empty one.
  std::string AdoptJournal(MixtureJournal journal, int64_t num_samples);

  // Tokens of source i, 0 .. source_names().size() - 1, in the order of the recipe.
  const TokenCorpus& corpus(size_t source) const { return sources_[source].corpus; }
  const TokenCorpus& corpus(int64_t source) const {
    return sources_[static_cast<size_t>(source)].corpus;
  }
  // Of the contents of each source's shards in order, 16 hexadecimal digits, by the source's name.
  // A run may only resume on the data it was started on.
  std::map<std::string, std::string> fingerprints() const;

  struct SourceProgress {
    std::string name;
    int64_t samples = 0;  // of the source among the first samples of the stream
    double epochs = 0;    // samples / samples of an epoch
  };
  // Where the stream stands after `num_samples` samples, for the sources of the recipe.
  std::vector<SourceProgress> Progress(int64_t num_samples) const;

 private:
  struct Source {
    std::string name;
    double weight = 1;
    TokenCorpus corpus;
    int64_t samples_per_epoch = 0;
    // The epochs in use: the current one, and its neighbour while ranks or prefetching are at an
    // epoch's end.
    mutable std::map<int64_t, std::shared_ptr<const SampleIndex>> epochs;
  };

  DataLoader() = default;
  // From memory, the cache, or built. Under mutex_.
  std::shared_ptr<const SampleIndex> Epoch(const Source& source, int64_t epoch) const;
  // Counts the epochs' samples; warns of documents that are too long to be used.
  absl::Status PrepareSources();
  SourceWeights Weights() const;
  size_t SourceNamed(const std::string& name) const;

  std::vector<Source> sources_;
  MixtureJournal journal_{{{"", 1.0}}};
  SampleIndexOptions options_;  // of every index, but for source and epoch
  std::string cache_;
  mutable std::mutex mutex_;              // of the sources' epochs
  mutable bool may_write_cache_ = false;  // until writing failed once
};

}  // namespace lacuna
