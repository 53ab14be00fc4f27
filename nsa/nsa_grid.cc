#include "nsa/nsa_grid.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/functions/attention.h"
#include "nsa/block_map.h"

namespace lacuna {

NsaGrid::NsaGrid(const PackedSequences& sequences, const NsaConfig& config,
                 const RowSubset* queries)
    : host_cu_seqlens(sequences.host_cu_seqlens()),
      host_cu_cmp{0},
      cu_seqlens(sequences.cu_seqlens()),
      cu_queries(queries == nullptr ? sequences.cu_seqlens() : queries->cu_seqlens()),
      positions(queries == nullptr ? sequences.positions() : queries->positions()),
      win_ranges(CausalRanges(sequences, config.window, queries).ranges),
      max_select_blocks((sequences.max_length() + config.select_block - 1) / config.select_block) {
  std::vector<int32_t> ranges(static_cast<size_t>(2 * sequences.num_rows())), last_tokens,
      first_rows, containing;
  for (size_t d = 0; d + 1 < host_cu_seqlens.size(); ++d) {
    const int32_t begin = host_cu_seqlens[d], first = host_cu_cmp.back();
    const int64_t length = host_cu_seqlens[d + 1] - begin;
    for (int64_t t = 0; t < length; ++t) {
      ranges[static_cast<size_t>(2 * (begin + t))] = first;
      ranges[static_cast<size_t>(2 * (begin + t)) + 1] =
          first + static_cast<int32_t>(NumCompressed(t + 1, config.block, config.stride));
    }
    const int64_t blocks = NumCompressed(length, config.block, config.stride);
    for (int64_t i = 0; i < blocks; ++i) {
      last_tokens.push_back(static_cast<int32_t>(i * config.stride + config.block - 1));
      first_rows.push_back(begin + static_cast<int32_t>(i * config.stride));
    }
    for (int64_t t = 0; t < length; ++t) {
      const BlockRange in = BlocksWithToken(t, blocks, config.block, config.stride);
      containing.push_back(first + static_cast<int32_t>(in.begin));
      containing.push_back(first + static_cast<int32_t>(in.end));
    }
    host_cu_cmp.push_back(first + static_cast<int32_t>(blocks));
  }
  const Device device = sequences.device();
  cu_cmp = Tensor::FromVector(host_cu_cmp, {static_cast<int64_t>(host_cu_cmp.size())}).To(device);
  cmp_positions = Tensor::FromVector(last_tokens, {num_compressed()}).To(device);
  if (sequences.num_documents() > 1) {
    cmp_tokens = Tensor::FromVector(first_rows, {num_compressed()}).To(device);
    token_blocks = Tensor::FromVector(containing, {sequences.num_rows(), 2}).To(device);
  }
  cmp_ranges = queries == nullptr ? Tensor::FromVector(ranges, {sequences.num_rows(), 2}).To(device)
                                  : queries->Pick(ranges, 2);
}

std::shared_ptr<const NsaGrid> NsaGrid::Of(const PackedSequences& sequences,
                                           const NsaConfig& config, const RowSubset* queries) {
  return sequences.Derived<NsaGrid>(
      fmt::format("nsa_grid.{}.{}.{}.{}.{}", config.block, config.stride, config.select_block,
                  config.window, queries == nullptr ? "all" : queries->name()),
      [&] { return NsaGrid(sequences, config, queries); });
}

}  // namespace lacuna
