#include "data/loader.h"

#include <spdlog/spdlog.h>

#include <filesystem>

#include "core/error.h"
#include "data/batch_builder.h"

namespace lacuna {

absl::StatusOr<std::unique_ptr<DataLoader>> DataLoader::Open(
    const DataConfig& config, int64_t sequence_length, uint64_t seed, const std::string& stage,
    int64_t vocab_size, uint64_t tokenizer_hash, bool may_write_cache) {
  LACUNA_CHECK(sequence_length > 0, "samples of {} tokens", sequence_length);
  std::unique_ptr<DataLoader> loader(new DataLoader());
  std::vector<std::string> problems;
  std::vector<double> weights;
  for (const SourceConfig& source : config.sources) {
    loader->sources_.emplace_back();
    loader->sources_.back().name = source.name;
    loader->sources_.back().corpus =
        TokenCorpus::Open(source.path, {vocab_size, tokenizer_hash}, &problems);
    weights.push_back(source.weight);
  }
  LACUNA_RETURN_IF_ERROR(ProblemsError(problems));
  loader->mixture_ = Mixture(weights);
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
  const std::lock_guard lock(loader->mutex_);
  for (Source& source : loader->sources_) {
    source.samples_per_epoch = loader->Epoch(source, 0)->num_samples();
  }
  return loader;
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
  const Mixture::Pick pick = mixture_.At(sample_number);
  const Source& source = sources_[static_cast<size_t>(pick.source)];
  SampleOrigin origin = {.source = pick.source,
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
    builder.AddSample(corpus(origin.source), origin.fragments, origin.source);
  }
  return builder.Finish();
}

std::vector<std::string> DataLoader::source_names() const {
  std::vector<std::string> names;
  for (const Source& source : sources_) names.push_back(source.name);
  return names;
}

std::string DataLoader::fingerprint() const {
  std::vector<uint64_t> hashes;
  for (const Source& source : sources_) hashes.push_back(source.corpus.fingerprint());
  return ToHex(XXH3_64bits(hashes.data(), hashes.size() * sizeof(uint64_t)));
}

std::vector<DataLoader::SourceProgress> DataLoader::Progress(int64_t num_samples) const {
  const std::vector<int64_t> counts = mixture_.Counts(num_samples);
  std::vector<SourceProgress> progress;
  for (size_t s = 0; s < sources_.size(); ++s) {
    const double epochs =
        static_cast<double>(counts[s]) / static_cast<double>(sources_[s].samples_per_epoch);
    progress.push_back({.name = sources_[s].name, .samples = counts[s], .epochs = epochs});
  }
  return progress;
}

}  // namespace lacuna
