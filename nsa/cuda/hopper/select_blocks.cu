#include <bit>

#include "core/cuda/memory.h"
#include "core/cuda/runtime.h"
#include "core/cuda/vector.cuh"
#include "core/ops/cuda/hopper/heads_map.h"
#include "nsa/cuda/hopper/select_blocks.cuh"
#include "nsa/cuda/hopper/select_blocks.h"

namespace lacuna::cuda::hopper {
namespace {

using attention::HeadsMap;
using select::Config;
// 16 heads in a group, compressed blocks of two strides, selection blocks of four.
using UsualShape = select::Shape<4, 4, 2>;
using AnyShape = select::Shape<>;

constexpr int64_t kSharedLimit = 227 * 1024;

// Calls f with the configuration for this width; false where there is none.
template <class F>
bool DispatchConfig(int64_t dk, F&& f) {
  if (dk == 192) {
    f(Config<192, 64, 4>{});
  } else if (dk == 128) {
    f(Config<128, 64, 6>{});
  } else if (dk == 64) {
    f(Config<64, 64, 8>{});
  } else {
    return false;
  }
  return true;
}

template <class Config>
bool HasCode(Stream stream) {
  static const bool has = HasHopperCode(
      reinterpret_cast<const void*>(select::SelectKernel<Config, AnyShape>), ComputeMajor(stream));
  return has;
}

template <class Config>
select::Params ParamsOf(const SelectBlocksArgs& args, const AttentionSizes& sizes) {
  const int tile_tokens = select::kTileRows / sizes.rep;
  select::Params p = {};
  p.q = HeadsMap(args.q, sizes.rep, select::kWarpgroupRows / sizes.rep);
  p.k = HeadsMap(args.k_cmp, 1, Config::kKeys);
  p.work = {.sizes = sizes,
            .slots = static_cast<int>(NumSlots(sizes.queries, 1, tile_tokens, sizes.documents)),
            .tile_tokens = tile_tokens,
            .rep_shift = std::countr_zero(static_cast<unsigned>(sizes.rep)),
            .groups_together = 1,
            .taken = nullptr};
  p.choice = {
      .blocks = args.blocks.As<int32_t>(),
      .scores = args.scores.As<float>(),
      .entropy = args.entropy.As<float>(),
      .places = static_cast<int>(args.blocks.dim(2)),
      .num_init = static_cast<int>(args.num_init),
      .num_local = static_cast<int>(args.num_local),
      .scores_width = args.scores.data == nullptr ? 0 : static_cast<int>(args.scores.dim(2))};
  p.lse = args.lse.As<float>();
  p.ranges = args.ranges.As<int32_t>();
  p.positions = args.positions.As<int32_t>();
  p.factor = static_cast<float>(args.scale) * kLog2E;
  p.select_block = static_cast<int>(args.select_block);
  p.pieces = static_cast<int>(args.select_block / args.stride);
  p.overlap = static_cast<int>(args.block / args.stride);
  p.tile_blocks = Config::kKeys / p.pieces;
  p.keys = {p.ranges, sizes.cu_keys, p.tile_blocks * p.pieces, p.overlap};
  p.score_stride = static_cast<int>((sizes.keys + p.overlap - 2) / p.keys.keys + 1) * p.tile_blocks;
  p.delays = RandomDelays();
  return p;
}

template <class Config>
void Launch(const SelectBlocksArgs& args, Stream stream) {
  const auto heads = static_cast<int>(args.q.dim(1)), groups = static_cast<int>(args.k_cmp.dim(1));
  const AttentionSizes sizes{.heads = heads,
                             .groups = groups,
                             .rep = heads / groups,
                             .dk = Config::kDk,
                             .dv = 0,
                             .documents = static_cast<int>(args.cu_queries.dim(0)) - 1,
                             .queries = args.q.dim(0),
                             .keys = args.k_cmp.dim(0),
                             .cu_queries = args.cu_queries.As<int32_t>(),
                             .cu_keys = args.cu_keys.As<int32_t>(),
                             .scale = static_cast<float>(args.scale)};
  select::Params p = ParamsOf<Config>(args, sizes);
  const int blocks = std::min(NumMultiprocessors(stream), p.work.slots * groups),
            tokens = p.work.tile_tokens;
  const int64_t sums_bytes = int64_t{select::kConsumers} *
                             std::max(tokens / select::kConsumers, 4) * select::kSumTiles *
                             p.keys.keys * 4;
  const int64_t scores_bytes = int64_t{tokens} * p.score_stride * 4;
  int64_t shared = 1024 + select::Memory<Config>::kSums + sums_bytes;
  const bool shared_scores = shared + scores_bytes <= kSharedLimit;
  if (shared_scores) shared += scores_bytes;
  // The counter of tiles, then the scores.
  constexpr int64_t kCounterBytes = 256;
  const Workspace workspace(kCounterBytes + (shared_scores ? 0 : blocks * scores_bytes), stream);
  p.work.taken = workspace.As<int>();
  if (!shared_scores) p.workspace = workspace.As<float>() + kCounterBytes / 4;
  LACUNA_CUDA_CHECK(
      cudaMemsetAsync(p.work.taken, 0, sizeof(int), static_cast<cudaStream_t>(stream.handle)));
  const bool usual = sizes.rep == 1 << UsualShape::kRepShift && p.pieces == UsualShape::kPieces &&
                     p.overlap == UsualShape::kOverlap;
  LaunchGrid(
      usual ? select::SelectKernel<Config, UsualShape> : select::SelectKernel<Config, AnyShape>,
      dim3(static_cast<unsigned>(blocks)), dim3(select::kThreads), shared, stream, p);
}

}  // namespace

bool Supports(const SelectBlocksArgs& args, Stream stream) {
  const TensorRef &q = args.q, &k = args.k_cmp;
  const int64_t rep = q.dim(1) / k.dim(1);
  if (q.dtype != DType::kBF16 || (rep != 8 && rep != 16 && rep != 32 && rep != 64)) return false;
  if (args.select_block / args.stride > 64 || args.block > args.select_block) return false;
  constexpr int64_t kMax = int64_t{1} << 30;
  if (q.dim(0) == 0 || k.dim(0) == 0 || q.dim(0) * k.dim(1) >= kMax || k.dim(0) >= kMax)
    return false;
  if (!IsAligned(q.data) || !IsAligned(k.data) || !IsAligned(args.lse.data)) return false;
  bool has_code = false;
  return DispatchConfig(q.dim(2),
                        [&](auto config) { has_code = HasCode<decltype(config)>(stream); }) &&
         has_code;
}

void SelectBlocks(const SelectBlocksArgs& args, Stream stream) {
  DispatchConfig(args.q.dim(2), [&](auto config) { Launch<decltype(config)>(args, stream); });
}

}  // namespace lacuna::cuda::hopper
