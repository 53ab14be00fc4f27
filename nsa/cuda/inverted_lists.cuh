// Which query rows chose each selection block, ascending, made on the device from the lists [N, G,
// n] without an order that depends on scheduling: a bit matrix (rows by blocks) is filled with
// atomic ors, which commute, then counted, scanned and written out in order.
//
// Blocks are numbered over the documents as slots are (core/cuda/attention_tiles.cuh): block j of
// document d is cu_keys[d] / l' + d + j; list g * num_blocks + block belongs to group g.
#pragma once

#include "core/cuda/attention_tiles.cuh"
#include "core/cuda/memory.h"

namespace lacuna::cuda {

inline constexpr int kScanThreads = 1024;

static __global__ void MarkChoicesKernel(AttentionSizes s, const int32_t* blocks, int places,
                                         int select_block, int64_t num_blocks, int64_t words,
                                         uint32_t* bits) {
  const int64_t size = s.queries * s.groups * places;
  for (int64_t i = GlobalIndex(); i < size; i += GridSize()) {
    const int32_t j = blocks[i];
    if (j < 0) continue;
    const int64_t n = i / (int64_t{s.groups} * places), group = i / places % s.groups;
    const int document = DocumentOfRow(s.cu_queries, s.documents, n);
    const int64_t block = FirstSlot(s.cu_keys, document, 1, select_block) + j;
    if (block >= num_blocks) continue;
    atomicOr(bits + (group * num_blocks + block) * words + n / 32, 1u << (n % 32));
  }
}

// The words of a block's bits that belong to its document's rows.
struct WordRange {
  int64_t begin, end;
  __device__ WordRange(const AttentionSizes& s, int select_block, int64_t block) {
    int64_t index = 0;
    const int d = OwnerOfSlot(s.cu_keys, s.documents, int64_t{1}, select_block, block, &index);
    begin = s.cu_queries[d] / 32;
    end = (int64_t{s.cu_queries[d + 1]} + 31) / 32;
  }
};

// A warp a list.
static __global__ void CountChoicesKernel(AttentionSizes s, int select_block, int64_t num_blocks,
                                          int64_t words, const uint32_t* bits, int64_t* counts) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t list = GlobalIndex() / kWarp; list < s.groups * num_blocks;
       list += GridSize() / kWarp) {
    const WordRange range(s, select_block, list % num_blocks);
    int count = 0;
    for (int64_t w = range.begin + lane; w < range.end; w += kWarp)
      count += __popc(bits[list * words + w]);
    count = WarpReduce(count);
    if (lane == 0) counts[list] = count;
  }
}

// start[i] = the sum of the counts before i, in place, start[n] the total; one block.
static __global__ void ScanKernel(int64_t* start, int64_t n) {
  __shared__ int64_t sums[kScanThreads];
  const int64_t share = (n + kScanThreads - 1) / kScanThreads, begin = min(n, share * threadIdx.x),
                end = min(n, begin + share);
  int64_t sum = 0;
  for (int64_t i = begin; i < end; ++i) sum += start[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int offset = 1; offset < kScanThreads; offset *= 2) {
    const int64_t before = threadIdx.x >= offset ? sums[threadIdx.x - offset] : 0;
    __syncthreads();
    sums[threadIdx.x] += before;
    __syncthreads();
  }
  int64_t next = sums[threadIdx.x] - sum;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t count = start[i];
    start[i] = next;
    next += count;
  }
  if (threadIdx.x == kScanThreads - 1) start[n] = next;
}

static __global__ void WriteChoicesKernel(AttentionSizes s, int select_block, int64_t num_blocks,
                                          int64_t words, const uint32_t* bits, const int64_t* start,
                                          int32_t* rows) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t list = GlobalIndex() / kWarp; list < s.groups * num_blocks;
       list += GridSize() / kWarp) {
    const WordRange range(s, select_block, list % num_blocks);
    int64_t next = start[list];
    for (int64_t first = range.begin; first < range.end; first += kWarp) {
      const int64_t w = first + lane;
      uint32_t word = w < range.end ? bits[list * words + w] : 0;
      const int count = __popc(word);
      int up_to = count;  // and with the lanes before
      for (int offset = 1; offset < kWarp; offset *= 2) {
        const int other = __shfl_up_sync(0xFFFFFFFFu, up_to, offset);
        if (lane >= offset) up_to += other;
      }
      int64_t at = next + up_to - count;
      for (; word != 0; word &= word - 1)
        rows[at++] = static_cast<int32_t>(w * 32 + __ffs(static_cast<int>(word)) - 1);
      next += __shfl_sync(0xFFFFFFFFu, up_to, kWarp - 1);
    }
  }
}

// The lists, as long as the object lives: those of list i are rows[start[i] .. start[i + 1]).
class InvertedLists {
 public:
  InvertedLists(const AttentionSizes& s, const int32_t* blocks, int places, int select_block,
                Stream stream)
      : num_blocks_(NumSlots(s.keys, 1, select_block, s.documents)),
        words_((s.queries + 31) / 32),
        bits_(s.groups * num_blocks_ * words_ * 4, stream),
        start_((s.groups * num_blocks_ + 1) * 8, stream),
        rows_(s.queries * s.groups * places * 4, stream) {
    const int64_t lists = s.groups * num_blocks_;
    Zero(bits_.As<void>(), lists * words_ * 4, stream);
    Launch(MarkChoicesKernel, s.queries * s.groups * places, stream, s, blocks, places,
           select_block, num_blocks_, words_, bits_.As<uint32_t>());
    Launch(CountChoicesKernel, lists * kWarp, stream, s, select_block, num_blocks_, words_,
           bits_.As<uint32_t>(), start_.As<int64_t>());
    LaunchGrid(ScanKernel, dim3(1), dim3(kScanThreads), 0, stream, start_.As<int64_t>(), lists);
    Launch(WriteChoicesKernel, lists * kWarp, stream, s, select_block, num_blocks_, words_,
           bits_.As<uint32_t>(), start_.As<int64_t>(), rows_.As<int32_t>());
  }

  int64_t num_blocks() const { return num_blocks_; }
  int64_t num_lists(const AttentionSizes& s) const { return s.groups * num_blocks_; }
  const int64_t* start() const { return start_.As<int64_t>(); }
  const int32_t* rows() const { return rows_.As<int32_t>(); }

 private:
  int64_t num_blocks_, words_;
  Workspace bits_, start_, rows_;
};

}  // namespace lacuna::cuda
