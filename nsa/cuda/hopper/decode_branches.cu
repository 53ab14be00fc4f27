#include <algorithm>

#include "core/cuda/early_launch.cuh"
#include "core/cuda/runtime.h"
#include "core/cuda/tensor_map.h"
#include "core/cuda/vector.cuh"
#include "nsa/cuda/hopper/decode_branches.cuh"
#include "nsa/cuda/hopper/decode_branches.h"

namespace lacuna::cuda::hopper {
namespace {

using namespace decode_branches;  // NOLINT

constexpr int64_t kSharedLimit = 227 * 1024;

// Both compute the same bits.
template <int kDk, int kDv, int kStages, int kDeepStages>
struct Forms {
  using Usual = Config<kDk, kDv, kStages>;
  using Deep = Config<kDk, kDv, kDeepStages, Usual::kBlocks, 1>;  // for blocks that are alone
};

// Calls f with the forms for these widths; false where there are none.
template <class F>
bool DispatchForms(const DecodeBranchesArgs& args, F&& f) {
  const int64_t dk = args.q.dim(2), dv = args.o.dim(2);
  if (dk == 192 && dv == 128) {
    f(Forms<192, 128, 1, 3>{});
  } else if (dk == 128 && dv == 128) {
    f(Forms<128, 128, 1, 3>{});
  } else if (dk == 64 && dv == 64) {
    f(Forms<64, 64, 2, 6>{});
  } else {
    return false;
  }
  return true;
}

// Floats of a row of scores in the longest sequence.
template <class Config>
int64_t ScoreStride(const DecodeBranchesArgs& args) {
  constexpr int64_t kShared = Config::kBlocks * 32;
  return (args.max_compressed() + kShared - 1) / kShared * 32;
}
template <class Config>
int64_t SharedBytes(const DecodeBranchesArgs& args) {
  const int64_t stride = ScoreStride<Config>(args), places = args.blocks.dim(2);
  const int64_t choice = stride +
                         BlockChoice<Config>::ScoresSize(stride, args.block / args.stride) +
                         2 * Config::kBlocks * places;
  return Memory<Config>::Scores(static_cast<int>(places)) + 4 * std::max(kRows * stride, choice);
}

template <class Config>
void Launch(const DecodeBranchesArgs& args, Stream stream) {
  const Params p = {.q = args.q.As<const BFloat16>(),
                    .gate = args.gate.As<const float>(),
                    .tokens = args.tokens.As<const int4>(),
                    .addresses = args.addresses.As<const int64_t>(),
                    .o = args.o.As<BFloat16>(),
                    .blocks = args.blocks.As<int32_t>(),
                    .heads = static_cast<int>(args.q.dim(1)),
                    .groups = static_cast<int>(args.groups),
                    .columns = kNumCacheColumns,
                    .cmp = kKeyCmp,
                    .slc = kKeySlc,
                    .win = kKeyWin,
                    .block = static_cast<int>(args.block),
                    .stride = static_cast<int>(args.stride),
                    .select_block = static_cast<int>(args.select_block),
                    .pieces = static_cast<int>(args.select_block / args.stride),
                    .overlap = static_cast<int>(args.block / args.stride),
                    .window = static_cast<int>(args.window),
                    .places = static_cast<int>(args.blocks.dim(2)),
                    .num_init = static_cast<int>(args.num_init),
                    .num_local = static_cast<int>(args.num_local),
                    .score_stride = static_cast<int>(ScoreStride<Config>(args)),
                    .at_once = NumMultiprocessors(stream) * Config::kTogether / Config::kBlocks,
                    .factor = static_cast<float>(args.scale) * kLog2E,
                    .per_block = Divider(static_cast<uint32_t>(args.select_block))};
  LaunchEarly(BranchesKernel<Config>,
              dim3(Config::kBlocks, static_cast<unsigned>(p.groups),
                   static_cast<unsigned>(args.tokens.dim(0))),
              kTileThreads, SharedBytes<Config>(args), stream, p);
}

template <class Config>
bool HasCode(Stream stream) {
  static const bool has =
      HasHopperCode(reinterpret_cast<const void*>(BranchesKernel<Config>), ComputeMajor(stream));
  return has;
}

// Deep rings where half of the multiprocessors are enough for a block each.
template <class Forms>
void LaunchForm(const DecodeBranchesArgs& args, Stream stream) {
  using Deep = typename Forms::Deep;
  const int64_t blocks = args.tokens.dim(0) * args.groups * Deep::kBlocks;
  if (2 * blocks <= NumMultiprocessors(stream) && SharedBytes<Deep>(args) <= kSharedLimit) {
    Launch<Deep>(args, stream);
  } else {
    Launch<typename Forms::Usual>(args, stream);
  }
}

}  // namespace

bool Supports(const DecodeBranchesArgs& args, Stream stream) {
  if (args.q.dtype != DType::kBF16 || args.q.dim(1) / args.groups > kRows || !(args.scale > 0))
    return false;
  if (!IsAligned(args.q.data) || !IsAligned(args.o.data) || args.max_length > INT32_MAX / 2)
    return false;
  bool fits = false;
  DispatchForms(args, [&](auto forms) {
    using Usual = typename decltype(forms)::Usual;
    fits = SharedBytes<Usual>(args) <= kSharedLimit && HasCode<Usual>(stream);
  });
  return fits;
}

void DecodeBranches(const DecodeBranchesArgs& args, Stream stream) {
  DispatchForms(args, [&](auto forms) { LaunchForm<decltype(forms)>(args, stream); });
}

}  // namespace lacuna::cuda::hopper
