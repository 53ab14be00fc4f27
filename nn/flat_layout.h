// Where the parameters of a model stand in its flat buffers, and what of them a rank keeps and
// updates.
//
// The ranks that have the same parameters are a group: all ranks of the run for those they have
// whole, the ranks with the same experts for parts (Parameter::part). Each group's parameters are a
// contiguous region, in order of use, cut into buckets of whole parameters. A bucket is what ranks
// exchange at once: it is padded to 16 elements for each rank of its group, and its r-th of
// group-size equal shares belongs to rank r.
//
//   whole   | bucket 0: w0 w1 .. pad | bucket 1: .. pad |     share of each bucket: rank in group
//   parts   | bucket 2: e0 .. pad |                           share of each bucket: replica
//
// With shard_updates the group of whole parameters may be fewer than all ranks (a node's); `copies`
// are then the ranks that have the same shares.
//
// A share (of the first copy) is who counts an element in sums over ranks (the gradients' norm) and,
// with shard_updates, who alone has its gradient and optimizer state (ZeRO-2, Rajbhandari et al.,
// 2020).
// With shard_values a rank keeps no more than its share of whole parameters' values, too (ZeRO-3);
// parts, which other ranks do not have anyway, are kept.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/parameter.h"

namespace lacuna {

// This rank's place among those that have the same parameters.
struct RankGroup {
  int size = 1;
  int rank = 0;
};

struct Sharding {
  RankGroup whole;
  RankGroup parts;
  RankGroup copies = {};                    // of a share of whole parameters
  int64_t bucket_bytes = int64_t{8} << 20;  // of gradients, at which a bucket is closed
  bool shard_updates = false;
  bool shard_values = false;  // with shard_updates
};

struct FlatBucket {
  RankGroup group;
  RankGroup copies;
  bool of_parts = false;
  bool sharded = false;         // its updates are this rank's share alone
  bool values_sharded = false;  // and so is what is kept of its values
  int64_t begin = 0;            // in the order of all buckets
  int64_t end = 0;
  int64_t values = 0;           // where its values begin in their buffer
  int64_t local = 0;            // where its updates begin in gradients, moments and master weights
  std::vector<size_t> entries;  // in order

  int64_t size() const { return end - begin; }
  int64_t share() const { return size() / group.size; }
  int64_t share_begin() const { return begin + group.rank * share(); }
  int64_t updates() const { return sharded ? share() : size(); }
  int64_t kept() const { return values_sharded ? share() : size(); }
};

// Elements [first, first + count) of a parameter.
struct FlatPiece {
  size_t entry = 0;
  int64_t first = 0;
  int64_t count = 0;
  int64_t value = 0;  // where `first` is in the buffer of values
  int64_t local = 0;  // and in gradients, moments and master weights
};

struct FlatLayout {
  struct Entry {
    Parameter* parameter;
    int64_t offset;  // of its first element in the order of all buckets
  };

  // In order of use; `element_bytes`: of a gradient.
  FlatLayout(const std::vector<Parameter*>& parameters, const Sharding& sharding,
             int64_t element_bytes);

  std::vector<Entry> entries;
  std::vector<FlatBucket> buckets;  // by offset
  std::vector<FlatPiece> counted;   // those in this rank's shares, in order of use
  std::vector<FlatPiece> updated;   // those that this rank updates, in order of use
  int64_t size = 0;                 // of all buckets, padding included
  int64_t value_size = 0;           // of the buffer of values
  int64_t local_size = 0;           // of gradients, moments and master weights
};

}  // namespace lacuna
