// The lists of tokens that chose each block, and their chunks, by the kernels of nsa/cuda; the sort
// between them is the host's.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "nsa/cuda/inverted_list_kernels.cuh"
#include "nsa/cuda/list_chunks.cuh"
#include "tests/emulation/card.h"

namespace lacuna::cuda {

struct ChosenLists {
  std::vector<int32_t> tokens;
  std::vector<int64_t> starts;
  std::vector<ListChunks> of_list;
  std::vector<Chunk> chunks;
  ListSizes sizes;

  // The chunks are those of all groups.
  ChosenLists(const AttentionSizes& s, const std::vector<int32_t>& blocks, int places,
              int select_block, int64_t chunk_rows, unsigned seed)
      : sizes{s,       places,  select_block, NumSlots(s.keys, 1, select_block, s.documents),
              nullptr, nullptr, chunk_rows} {
    const int64_t lists = s.groups * sizes.num_blocks;
    std::vector<uint32_t> keys(blocks.size(), ~0u);
    std::vector<int32_t> of_place(blocks.size(), -1);
    emulation::Run({3, 1, 64}, seed, [&] {
      ChoicesKernel(s, blocks.data(), places, select_block, sizes.num_blocks, keys.data(),
                    of_place.data());
    });
    std::vector<size_t> order(blocks.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return keys[a] < keys[b]; });
    std::vector<uint32_t> sorted;
    for (const size_t at : order) {
      sorted.push_back(keys[at]);
      tokens.push_back(of_place[at]);
    }
    starts.assign(static_cast<size_t>(lists + 1), -1);
    emulation::Run({2, 1, 64}, seed, [&] {
      StartsKernel(sorted.data(), static_cast<int64_t>(sorted.size()), lists, starts.data());
    });
    sizes.start = starts.data();
    sizes.tokens = tokens.data();
    const auto capacity = static_cast<int>(s.groups * sizes.MaxChunks());
    of_list.assign(static_cast<size_t>(lists), {-1, -1});
    chunks.assign(static_cast<size_t>(capacity), {-2, -2});
    emulation::Run({1, 1, 128}, seed, [&] {
      PlanChunksKernel(sizes, 0, s.groups, capacity, of_list.data(), chunks.data());
    });
  }
};

}  // namespace lacuna::cuda
