// Rows on their way between ranks, one chunk after the other.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "distributed/communicator.h"

namespace lacuna {

// Numbers of rows by chunk and rank, [P M], of `ranks` ranks.
class ChunkRows {
 public:
  ChunkRows() = default;
  ChunkRows(std::vector<int64_t> rows, int64_t ranks) : rows_(std::move(rows)) {
    for (auto at = rows_.begin(); at != rows_.end(); at += ranks) {
      chunks_.emplace_back(at, at + ranks);
      begins_.push_back(std::accumulate(at, at + ranks, begins_.back()));
    }
  }
  const std::vector<int64_t>& all() const { return rows_; }
  const std::vector<int64_t>& of(int64_t chunk) const { return chunks_[At(chunk)]; }
  int64_t chunks() const { return static_cast<int64_t>(chunks_.size()); }
  // First rows of the chunks, and the number of all rows: [P + 1].
  const std::vector<int64_t>& begins() const { return begins_; }
  int64_t total() const { return begins_.back(); }
  Tensor Of(int64_t chunk, const Tensor& rows) const {
    return rows.Slice(begins_[At(chunk)], begins_[At(chunk) + 1]);
  }

 private:
  static size_t At(int64_t chunk) { return static_cast<size_t>(chunk); }

  std::vector<int64_t> rows_, begins_ = {0};
  std::vector<std::vector<int64_t>> chunks_;
};

class MovingChunks {
 public:
  // received: rows of all chunks, which may not be touched before they have arrived. The numbers of
  // rows must stay until then.
  MovingChunks(Communicator& group, Tensor received, const ChunkRows& send,
               const ChunkRows& receive)
      : group_(group), received_(std::move(received)), send_(send), receive_(receive) {}

  // The next chunk's.
  void Launch(const Tensor& rows) {
    const auto chunk = static_cast<int64_t>(requests_.size());
    requests_.push_back(group_.AllToAllRows(rows, send_.of(chunk), receive_.Of(chunk, received_),
                                            receive_.of(chunk)));
  }
  const Tensor& received() const { return received_; }
  void Wait(int64_t chunk) { requests_[static_cast<size_t>(chunk)].Wait(); }
  const Tensor& WaitForAll() {
    for (Request& request : requests_) request.Wait();
    return received_;
  }

 private:
  Communicator& group_;
  Tensor received_;
  const ChunkRows &send_, &receive_;
  std::vector<Request> requests_;
};

}  // namespace lacuna
