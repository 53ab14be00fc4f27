// Starting the kernels of attention_fwd.cuh and attention_dq.cuh on a call's tensors.
#pragma once

#include <algorithm>
#include <bit>

#include "core/cuda/memory.h"
#include "core/cuda/runtime.h"
#include "core/cuda/vector.cuh"
#include "core/ops/cuda/hopper/attention_dkv.cuh"
#include "core/ops/cuda/hopper/attention_dq.cuh"
#include "core/ops/cuda/hopper/attention_fwd.cuh"
#include "core/ops/cuda/hopper/heads_map.h"

namespace lacuna::cuda::hopper::attention {

template <auto kKernel>
bool HasCode(Stream stream) {
  static const bool has =
      HasHopperCode(reinterpret_cast<const void*>(kKernel), ComputeMajor(stream));
  return has;
}

inline bool IsPackable(const TensorRef& t) {
  return Packable<BFloat16>(t.data, t.dim(2));
}

inline bool IsGroupSize(int64_t heads) {
  return std::has_single_bit(static_cast<uint64_t>(heads)) && heads <= kWarpgroupRows;
}

// What all calls need, whatever their keys.
template <class Args>
bool SupportsShapes(const Args& args) {
  const TensorRef &q = args.q, &k = args.k;
  const int64_t rep = q.dim(1) / k.dim(1);
  if (q.dtype != DType::kBF16 || !IsGroupSize(rep) || !(args.scale > 0)) return false;
  constexpr int64_t kMost = int64_t{1} << 30;  // rows, and slots of all groups, count in 32 bits
  return q.dim(0) > 0 && k.dim(0) > 0 && q.dim(0) * k.dim(1) <= kMost && k.dim(0) <= kMost &&
         IsPackable(q) && IsPackable(k) && IsPackable(args.v) && IsPackable(args.o);
}

// Groups whose keys and values stay in L2 together (50 MB on an H100, also crossed by q and o).
inline int GroupsTogether(const AttentionSizes& s) {
  constexpr int64_t kBytes = 24 << 20;
  const int64_t group_bytes = s.keys * (s.dk + s.dv) * 2;
  return static_cast<int>(std::clamp<int64_t>(kBytes / group_bytes, 1, s.groups));
}

// What the kernels whose blocks stay with rows have in common, but the keys. taken: one, that counts
// the tiles taken.
template <class Config, class Args, class Params>
void SetUp(const Args& args, const AttentionSizes& sizes, int* taken, Stream stream, Params& p) {
  const int tile_tokens = kTileRows<Config> / sizes.rep;
  Zero(taken, sizeof(int), stream);
  p.q = HeadsMap(args.q, sizes.rep, kWarpgroupRows / sizes.rep);
  p.k = HeadsMap(args.k, 1, Config::kKeys);
  p.v = HeadsMap(args.v, 1, Config::kKeys);
  p.work = {.sizes = sizes,
            .slots = static_cast<int>(NumSlots(sizes.queries, 1, tile_tokens, sizes.documents)),
            .tile_tokens = tile_tokens,
            .rep_shift = std::countr_zero(static_cast<unsigned>(sizes.rep)),
            .groups_together = GroupsTogether(sizes),
            .taken = taken};
  p.factor = static_cast<float>(args.scale) * kLog2E;
  p.delays = RandomDelays();
}
template <class Args, class Keys>
void SetOutputs(const Args& args, FwdParams<Keys>& p) {
  p.o = args.o.template As<BFloat16>();
  p.lse = args.lse.template As<float>();
}
template <class Args, class Keys>
void SetOutputs(const Args& args, const AttentionSizes& sizes, const float* delta,
                DqParams<Keys>& p) {
  p.d_o = HeadsMap(args.d_o, sizes.rep, kWarpgroupRows / sizes.rep);
  p.lse = args.lse.template As<float>();
  p.delta = delta;
  p.dq = args.dq.template As<BFloat16>();
  p.add = args.add_dq;
  p.scale = static_cast<float>(args.scale);
}
template <class Config, class Args, class Rows>
DkvParams<Rows> DkvParamsOf(const Args& args, const Rows& rows, const float* delta) {
  const auto sizes = AttentionSizes::Of(args);
  const int tokens = AreConsecutive<Rows>() ? Config::kRows / sizes.rep : 1;
  return {.q = HeadsMap(args.q, sizes.rep, tokens),
          .d_o = HeadsMap(args.d_o, sizes.rep, tokens),
          .k = HeadsMap(args.k, 1, Config::kKeys),
          .v = HeadsMap(args.v, 1, Config::kKeys),
          .sizes = sizes,
          .rows = rows,
          .lse = args.lse.template As<float>(),
          .delta = delta,
          .scale = static_cast<float>(args.scale),
          .factor = static_cast<float>(args.scale) * kLog2E,
          .delays = RandomDelays()};
}
template <class Config, class Params>
void Start(void (*kernel)(Params), const Params& p, Stream stream) {
  const int blocks = std::min(NumMultiprocessors(stream), p.work.slots * p.work.sizes.groups);
  LaunchGrid(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads<Config>),
             Memory<Config>::kBytes + 1024, stream, p);
}

}  // namespace lacuna::cuda::hopper::attention
