#include "distributed/weight_gatherer.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "core/memory_category.h"

namespace lacuna {

WeightGatherer::WeightGatherer(FlatParameters& parameters, LanguageModel& model,
                               Communicator& shares)
    : parameters_(parameters), model_(model), shares_(shares) {
  absl::flat_hash_map<const Parameter*, size_t> bucket_of;
  for (const FlatBucket& flat : parameters.layout().buckets) {
    if (!flat.values_sharded) continue;
    LACUNA_CHECK(shares.size() == flat.group.size && shares.rank() == flat.group.rank,
                 "weights laid out for rank {} of {}, the communicator is {} of {}",
                 flat.group.rank, flat.group.size, shares.rank(), shares.size());
    for (const size_t i : flat.entries)
      bucket_of[parameters.entries()[i].parameter] = buckets_.size();
    buckets_.emplace_back().flat = &flat;
  }
  if (buckets_.empty()) return;
  for (const std::vector<Parameter*>& stage : model.StageParameters()) {
    std::vector<size_t>& buckets = of_stage_.emplace_back();
    for (const Parameter* parameter : stage) {
      const auto found = bucket_of.find(parameter);
      if (found != bucket_of.end()) buckets.push_back(found->second);
    }
    std::sort(buckets.begin(), buckets.end());
    buckets.erase(std::unique(buckets.begin(), buckets.end()), buckets.end());
  }
  model.set_weight_stages(this);
}

WeightGatherer::~WeightGatherer() {
  if (!buckets_.empty()) model_.set_weight_stages(nullptr);
}

void WeightGatherer::Begin(int64_t stage, int64_t next) {
  const std::vector<size_t>& now = of_stage_[static_cast<size_t>(stage)];
  std::vector<size_t> wanted = now;
  if (next >= 0) {
    const std::vector<size_t>& then = of_stage_[static_cast<size_t>(next)];
    wanted.insert(wanted.end(), then.begin(), then.end());
  }
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (std::find(wanted.begin(), wanted.end(), b) == wanted.end()) Release(buckets_[b]);
  }
  for (const size_t b : wanted) Launch(buckets_[b]);
  for (const size_t b : now) Receive(buckets_[b]);
}

void WeightGatherer::End() {
  for (Bucket& bucket : buckets_) Release(bucket);
}

void WeightGatherer::Launch(Bucket& bucket) {
  if (bucket.buffer.defined()) return;
  const FlatBucket& flat = *bucket.flat;
  const MemoryScope scope(MemoryCategory::kCommunication);
  const Tensor& values = parameters_.value();
  bucket.buffer = Tensor::Empty({flat.size()}, values.dtype(), values.device());
  bucket.request = shares_.AllGatherInto(values.View(flat.values, {flat.share()}), bucket.buffer);
  bucket.travels = true;
}

void WeightGatherer::Receive(Bucket& bucket) {
  if (!bucket.travels) return;
  std::exchange(bucket.request, Request()).Wait();
  bucket.travels = false;
  parameters_.AttachValues(*bucket.flat, bucket.buffer);
}

void WeightGatherer::Release(Bucket& bucket) {
  if (!bucket.buffer.defined()) return;
  Receive(bucket);  // its memory is in use until then
  parameters_.DetachValues(*bucket.flat);
  std::exchange(bucket.buffer, Tensor());
}

}  // namespace lacuna
