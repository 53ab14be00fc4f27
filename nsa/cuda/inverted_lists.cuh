// Which query rows chose each selection block, ascending, made on the device from the lists [N, G,
// n]: pairs (block, token) are written in the order of tokens and sorted by block, stably. The
// memory is a multiple of the pairs', whatever the documents' lengths.
//
// Blocks are numbered over the documents as slots are (core/cuda/attention_sizes.cuh): block j of
// document d is cu_keys[d] / l' + d + j; list g * num_blocks + block belongs to group g.
#pragma once

#include <bit>
#include <cub/device/device_radix_sort.cuh>
#include <memory>
#include <utility>

#include "core/cuda/launch.cuh"
#include "core/cuda/memory.h"
#include "nsa/cuda/inverted_list_kernels.cuh"

namespace lacuna::cuda {

// The lists, as long as the object lives: those of list i are rows[start[i] .. start[i + 1]).
class InvertedLists {
 public:
  InvertedLists(const AttentionSizes& s, const int32_t* blocks, int places, int select_block,
                Stream stream)
      : num_blocks_(NumSlots(s.keys, 1, select_block, s.documents)),
        start_((s.groups * num_blocks_ + 1) * 8, stream) {
    const int64_t lists = s.groups * num_blocks_, entries = s.queries * s.groups * places;
    rows_ = std::make_unique<Workspace>(entries * 4, stream);
    auto other_rows = std::make_unique<Workspace>(entries * 4, stream);
    const Workspace keys(entries * 4, stream), other_keys(entries * 4, stream);
    cub::DoubleBuffer<uint32_t> by_list(keys.As<uint32_t>(), other_keys.As<uint32_t>());
    cub::DoubleBuffer<int32_t> rows(rows_->As<int32_t>(), other_rows->As<int32_t>());
    Launch(ChoicesKernel, s.queries * kWarp, stream, s, blocks, places, select_block, num_blocks_,
           by_list.Current(), rows.Current());
    size_t bytes = 0;
    const auto sort = [&](void* scratch) {
      LACUNA_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(
          scratch, bytes, by_list, rows, entries, 0, std::bit_width(static_cast<uint64_t>(lists)),
          static_cast<cudaStream_t>(stream.handle)));
    };
    sort(nullptr);
    const Workspace scratch(static_cast<int64_t>(bytes), stream);
    sort(scratch.As<void>());
    if (rows.Current() != rows_->As<int32_t>()) std::swap(rows_, other_rows);
    Launch(StartsKernel, lists + 1, stream, by_list.Current(), entries, lists,
           start_.As<int64_t>());
  }

  int64_t num_blocks() const { return num_blocks_; }
  const int64_t* start() const { return start_.As<int64_t>(); }
  const int32_t* rows() const { return rows_->As<int32_t>(); }

 private:
  int64_t num_blocks_;
  Workspace start_;
  std::unique_ptr<Workspace> rows_;
};

}  // namespace lacuna::cuda
