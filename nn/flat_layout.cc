#include "nn/flat_layout.h"

#include <algorithm>

#include "core/error.h"

namespace lacuna {
namespace {

constexpr int64_t kAlignment = 16;  // elements

int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Buckets of one region, from its last parameter back: backward finishes that one first.
std::vector<FlatBucket> CutRegion(const std::vector<Parameter*>& parameters, bool of_parts,
                                  const Sharding& sharding, int64_t element_bytes) {
  const RankGroup group = of_parts ? sharding.parts : sharding.whole;
  std::vector<FlatBucket> buckets;
  int64_t bytes = 0;
  for (size_t i = parameters.size(); i-- > 0;) {
    if (parameters[i]->part.has_value() != of_parts) continue;
    if (buckets.empty() || bytes >= sharding.bucket_bytes) {
      buckets.push_back({.group = group,
                         .copies = of_parts ? RankGroup{} : sharding.copies,
                         .of_parts = of_parts,
                         .sharded = sharding.shard_updates && group.size > 1,
                         .values_sharded = sharding.shard_values && group.size > 1 && !of_parts,
                         .entries = {}});
      bytes = 0;
    }
    buckets.back().entries.insert(buckets.back().entries.begin(), i);
    bytes += RoundUp(parameters[i]->numel(), kAlignment) * element_bytes;
  }
  std::reverse(buckets.begin(), buckets.end());
  return buckets;
}

// What of an entry lies within [begin, end) of the flat buffer.
FlatPiece Cut(const FlatLayout::Entry& entry, size_t index, const FlatBucket& bucket, int64_t begin,
              int64_t end) {
  const int64_t from = std::max(entry.offset, begin),
                to = std::min(entry.offset + entry.parameter->numel(), end);
  const int64_t updates_begin = bucket.sharded ? bucket.share_begin() : bucket.begin,
                values_begin = bucket.values_sharded ? bucket.share_begin() : bucket.begin;
  return {.entry = index,
          .first = from - entry.offset,
          .count = std::max<int64_t>(to - from, 0),
          .value = bucket.values + from - values_begin,
          .local = bucket.local + from - updates_begin};
}

}  // namespace

FlatLayout::FlatLayout(const std::vector<Parameter*>& parameters, const Sharding& sharding,
                       int64_t element_bytes) {
  LACUNA_CHECK(sharding.copies.size == 1 || (sharding.shard_updates && sharding.whole.size > 1),
               "{} ranks have the same shares, and there are none", sharding.copies.size);
  for (const RankGroup& group : {sharding.whole, sharding.parts, sharding.copies}) {
    LACUNA_CHECK(group.rank >= 0 && group.rank < group.size, "rank {} of a group of {}", group.rank,
                 group.size);
  }
  LACUNA_CHECK(sharding.shard_updates || !sharding.shard_values,
               "values in shares, and updates of all of them");
  for (Parameter* parameter : parameters) entries.push_back({parameter, 0});
  std::vector<const FlatBucket*> bucket_of(entries.size());
  for (const bool of_parts : {false, true}) {
    for (FlatBucket& bucket : CutRegion(parameters, of_parts, sharding, element_bytes)) {
      bucket.begin = size;
      for (const size_t i : bucket.entries) {
        entries[i].offset = size;
        size += RoundUp(parameters[i]->numel(), kAlignment);
      }
      size = bucket.end =
          bucket.begin + RoundUp(size - bucket.begin, kAlignment * bucket.group.size);
      bucket.values = value_size;
      value_size += bucket.kept();
      bucket.local = local_size;
      local_size += bucket.updates();
      buckets.push_back(std::move(bucket));
    }
  }
  for (const FlatBucket& bucket : buckets) {
    for (const size_t i : bucket.entries) bucket_of[i] = &bucket;
  }
  for (size_t i = 0; i < entries.size(); ++i) {
    const FlatBucket& bucket = *bucket_of[i];
    const FlatPiece share =
        Cut(entries[i], i, bucket, bucket.share_begin(), bucket.share_begin() + bucket.share());
    const FlatPiece whole = Cut(entries[i], i, bucket, bucket.begin, bucket.end);
    if (share.count > 0 && bucket.copies.rank == 0) counted.push_back(share);
    if (!bucket.sharded) {
      updated.push_back(whole);
    } else if (share.count > 0) {
      updated.push_back(share);
    }
  }
}

}  // namespace lacuna
