#include "data/loader.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/status.h"
#include "data/batch_builder.h"

namespace lacuna {

absl::StatusOr<std::unique_ptr<DataLoader>> DataLoader::Open(
    const DataConfig& config, int64_t sequence_length, uint64_t seed, const std::string& stage,
    int64_t vocab_size, uint64_t tokenizer_hash, bool may_write_cache) {
  LACUNA_CHECK(sequence_length > 0, "samples of {} tokens", sequence_length);
  std::unique_ptr<DataLoader> loader(new DataLoader());
  std::vector<std::string> problems;
  for (const SourceConfig& source : config.sources) {
    loader->sources_.emplace_back();
    loader->sources_.back().name = source.name;
    loader->sources_.back().weight = source.weight;
    loader->sources_.back().corpus =
        TokenCorpus::Open(source.path, {vocab_size, tokenizer_hash}, &problems);
  }
  LACUNA_RETURN_IF_ERROR(ProblemsError(problems));
  loader->journal_ = MixtureJournal(loader->Weights());
  loader->options_.packing = config.packing;
  loader->options_.sequence_length = sequence_length;
  loader->options_.seed = seed;
  loader->options_.stage = stage;
  loader->may_write_cache_ = may_write_cache;
  loader->cache_ = config.cache;
  if (config.cache.empty()) {
    const std::filesystem::path shard = loader->sources_.front().corpus.shards().front().path();
    loader->cache_ = (shard.parent_path() / "index").string();
  }
  LACUNA_RETURN_IF_ERROR(loader->PrepareSources());
  return loader;
}

absl::Status DataLoader::PrepareSources() {
  const std::lock_guard lock(mutex_);
  for (Source& source : sources_) {
    if (options_.packing == Packing::kWhole) {
      const int64_t documents = source.corpus.num_documents();
      int64_t too_long = 0, longest = 0;
      for (int64_t d = 0; d < documents; ++d) {
        const int64_t length = source.corpus.Find(d).length;
        too_long += length > options_.sequence_length;
        longest = std::max(longest, length);
      }
      const std::string line = fmt::format(
          "source {}: {} of {} documents have more than train.sequence_length = {} tokens (the "
          "longest {}) and are left out",
          source.name, too_long, documents, options_.sequence_length, longest);
      if (too_long == documents) return DataError("{}: none is left", line);
      // One voice of several ranks.
      if (too_long > 0 && may_write_cache_) spdlog::warn("{}", line);
    }
    source.samples_per_epoch = Epoch(source, 0)->num_samples();
  }
  return absl::OkStatus();
}

SourceWeights DataLoader::Weights() const {
  SourceWeights weights;
  for (const Source& source : sources_) weights.emplace_back(source.name, source.weight);
  return weights;
}

std::string DataLoader::AdoptJournal(MixtureJournal journal, int64_t num_samples) {
  journal_ = std::move(journal);
  return journal_.Edit(num_samples, Weights());
}

size_t DataLoader::SourceNamed(const std::string& name) const {
  for (size_t s = 0; s < sources_.size(); ++s) {
    if (sources_[s].name == name) return s;
  }
  LACUNA_CHECK(false, "no source {}: a sample of before the mix was edited", name);
}

std::shared_ptr<const SampleIndex> DataLoader::Epoch(const Source& source, int64_t epoch) const {
  if (const auto found = source.epochs.find(epoch); found != source.epochs.end())
    return found->second;
  SampleIndexOptions options = options_;
  options.source = source.name;
  options.epoch = epoch;
  const uint64_t key = SampleIndex::Key(source.corpus, options);
  const std::string path = fmt::format("{}/samples_{}.h5", cache_, ToHex(key));
  auto cached = SampleIndex::Read(path, key);
  auto index = std::make_shared<const SampleIndex>(
      cached.ok() ? *std::move(cached) : SampleIndex::Build(source.corpus, options));
  if (!cached.ok() && may_write_cache_) {
    absl::Status status = MakeDirectories(cache_, ExitCode::kData);
    if (status.ok()) status = index->Write(path, key);
    if (!status.ok()) {
      spdlog::warn("sample indexes cannot be kept, so each start builds them again: {}",
                   Message(status));
      may_write_cache_ = false;
    }
  }
  // Ranks and prefetching are at most an epoch apart.
  constexpr size_t kKept = 2;
  while (source.epochs.size() >= kKept) {
    source.epochs.erase(source.epochs.begin()->first < epoch ? source.epochs.begin()
                                                             : std::prev(source.epochs.end()));
  }
  source.epochs[epoch] = index;
  return index;
}

SampleOrigin DataLoader::Origin(int64_t sample_number) const {
  const MixtureJournal::Pick pick = journal_.At(sample_number);
  const size_t index_of_source = SourceNamed(pick.source);
  const Source& source = sources_[index_of_source];
  SampleOrigin origin = {.source = static_cast<int64_t>(index_of_source),
                         .epoch = pick.number / source.samples_per_epoch,
                         .number = pick.number % source.samples_per_epoch,
                         .samples_per_epoch = source.samples_per_epoch,
                         .fragments = {}};
  std::shared_ptr<const SampleIndex> index;
  {
    const std::lock_guard lock(mutex_);
    index = Epoch(source, origin.epoch);
  }
  LACUNA_CHECK(index->num_samples() == source.samples_per_epoch,
               "epoch {} of {} has {} samples, epoch 0 has {}", origin.epoch, source.name,
               index->num_samples(), source.samples_per_epoch);
  const std::span<const Fragment> fragments = index->Sample(origin.number);
  origin.fragments.assign(fragments.begin(), fragments.end());
  return origin;
}

absl::StatusOr<Batch> DataLoader::Load(const std::vector<int64_t>& sample_numbers) const {
  BatchBuilder builder(static_cast<int64_t>(sample_numbers.size()), options_.sequence_length,
                       static_cast<int64_t>(sources_.size()));
  for (const int64_t k : sample_numbers) {
    const SampleOrigin origin = Origin(k);
    builder.AddSample(corpus(origin.source), origin.fragments, origin.source, k);
  }
  return builder.Finish();
}

std::vector<std::string> DataLoader::source_names() const {
  std::vector<std::string> names;
  for (const Source& source : sources_) names.push_back(source.name);
  return names;
}

std::map<std::string, std::string> DataLoader::fingerprints() const {
  std::map<std::string, std::string> fingerprints;
  for (const Source& source : sources_)
    fingerprints[source.name] = ToHex(source.corpus.fingerprint());
  return fingerprints;
}

std::vector<DataLoader::SourceProgress> DataLoader::Progress(int64_t num_samples) const {
  std::map<std::string, int64_t> counts = journal_.Counts(num_samples);
  std::vector<SourceProgress> progress;
  for (const Source& source : sources_) {
    const int64_t samples = counts[source.name];
    progress.push_back(
        {.name = source.name,
         .samples = samples,
         .epochs = static_cast<double>(samples) / static_cast<double>(source.samples_per_epoch)});
  }
  return progress;
}

}  // namespace lacuna
