// One token's branches, a block a (sequence, group), head by head.
//
// A workspace holds, for each block: scores [heads of the group][Tc], their sums over the heads [Tc],
// scores of blocks. The gated sum [heads of the group][Dv] is in shared memory.
#include "core/cuda/decode_rows.cuh"
#include "core/cuda/memory.h"
#include "nsa/cuda/hopper/block_choice.cuh"
#include "nsa/cuda/hopper/decode_branches.h"

namespace lacuna::cuda {
namespace {

using namespace decode;  // NOLINT: the vocabulary of one token's attention
namespace select = hopper::select;

struct Params {
  const void* q;
  void* o;
  const float* gate;
  const int4* tokens;
  const int64_t* addresses;
  int32_t* blocks;
  float* workspace;
  int heads, groups, dk, dv;
  int block, stride, select_block, pieces, overlap, window;
  int places, num_init, num_local;
  int compressed;  // of the longest sequence
  int64_t workspace_floats;
  float factor;
};

template <class T>
__global__ void __launch_bounds__(kHeadThreads) BranchesKernel(const __grid_constant__ Params p) {
  __shared__ HeadSums sums;
  extern __shared__ float output[];  // [rep][dv], then [rep] (shift, 1 / sum)
  const int group = static_cast<int>(blockIdx.x), rep = p.heads / p.groups;
  const int thread = static_cast<int>(threadIdx.x);
  const int4 token = p.tokens[blockIdx.y];
  const int position = token.y,
            compressed = position + 1 < p.block ? 0 : (position + 1 - p.block) / p.stride + 1;
  const int64_t first_head = int64_t{token.x} * p.heads + group * rep,
                number = int64_t{blockIdx.y} * p.groups + group;
  auto* const row_states = reinterpret_cast<float2*>(output + (rep * p.dv + 1) / 2 * 2);
  float* const scores = p.workspace + number * p.workspace_floats;
  float* const head_sums = scores + int64_t{rep} * p.compressed;
  float* const block_scores = head_sums + p.compressed;
  int32_t* const list = p.blocks + number * p.places;

  const auto attend = [&](int head, int column, int branch, int count, auto&& row_of,
                          auto&& on_score) {
    const int64_t* caches = p.addresses + token.z * int64_t{kNumCacheColumns} + column;
    const int64_t row = first_head + head;
    const float gate = p.gate[row * 3 + branch];
    return AttendHead(static_cast<const T*>(p.q) + row * p.dk,
                      reinterpret_cast<const T*>(caches[0]) + group * p.dk,
                      reinterpret_cast<const T*>(caches[1]) + group * p.dv,
                      int64_t{p.groups} * p.dk, int64_t{p.groups} * p.dv, p.dk, p.dv, count,
                      p.factor, sums, row_of, on_score, [&](int c, float x) {
                        float& out = output[head * p.dv + c];
                        out = (branch == 0 ? 0.0f : out) + gate * x;
                      });
  };
  const auto in_order = [](int i) { return int64_t{i}; };
  const auto nothing = [](int, float) {};
  for (int head = 0; head < rep; ++head) {
    const float2 state = attend(head, kKeyCmp, 0, compressed, in_order, [&](int i, float score) {
      scores[int64_t{head} * p.compressed + i] = score;
    });
    if (thread == 0) row_states[head] = make_float2(state.x, state.y == 0 ? 0.0f : 1 / state.y);
    attend(head, kKeyWin, 2, min(p.window, position + 1), in_order, nothing);
  }
  __syncthreads();
  for (int i = thread; i < compressed; i += kHeadThreads) {
    float total = 0;
    for (int head = 0; head < rep; ++head) {
      total +=
          select::WithFloor(exp2f(scores[int64_t{head} * p.compressed + i] - row_states[head].x) *
                            row_states[head].y);
    }
    head_sums[i] = total;
  }
  __syncthreads();
  const int reached = compressed == 0 ? 0 : (compressed + p.overlap - 2) / p.pieces + 1;
  for (int j = thread; j < reached; j += kHeadThreads) {
    const int begin = j * p.pieces;
    float score = 0;
    for (int row = max(0, begin - p.overlap + 1); row < min(compressed, begin + p.pieces); ++row) {
      const int count = min(p.overlap, begin + p.pieces - row) - max(0, begin - row);
      score += static_cast<float>(count) * head_sums[row];
    }
    block_scores[j] = score;
  }
  __syncthreads();
  const int own = position / p.select_block;
  if (thread < kWarp) {
    const select::Choice choice{.blocks = nullptr,
                                .scores = nullptr,
                                .entropy = nullptr,
                                .places = p.places,
                                .num_init = p.num_init,
                                .num_local = p.num_local,
                                .scores_width = 0};
    select::Choose(choice, select::TokenScores{block_scores, reached}, own, list);
  }
  __syncthreads();
  const int tokens = (min(p.places, own + 1) - 1) * p.select_block + position % p.select_block + 1;
  const auto listed = [&](int i) {
    return int64_t{list[i / p.select_block]} * p.select_block + i % p.select_block;
  };
  for (int head = 0; head < rep; ++head) attend(head, kKeySlc, 1, tokens, listed, nothing);
  __syncthreads();
  for (int i = thread; i < rep * p.dv; i += kHeadThreads)
    static_cast<T*>(p.o)[first_head * p.dv + i] = Store<T>(output[i]);
}

}  // namespace

void DecodeBranches(const DecodeBranchesArgs& args, Stream stream) {
  if (hopper::Supports(args, stream)) return hopper::DecodeBranches(args, stream);
  const auto i = [](int64_t n) { return static_cast<int>(n); };
  Params p = {.q = args.q.data,
              .o = args.o.data,
              .gate = args.gate.As<const float>(),
              .tokens = args.tokens.As<const int4>(),
              .addresses = args.addresses.As<const int64_t>(),
              .blocks = args.blocks.As<int32_t>(),
              .workspace = nullptr,
              .heads = i(args.q.dim(1)),
              .groups = i(args.groups),
              .dk = i(args.q.dim(2)),
              .dv = i(args.o.dim(2)),
              .block = i(args.block),
              .stride = i(args.stride),
              .select_block = i(args.select_block),
              .pieces = i(args.select_block / args.stride),
              .overlap = i(args.block / args.stride),
              .window = i(args.window),
              .places = i(args.blocks.dim(2)),
              .num_init = i(args.num_init),
              .num_local = i(args.num_local),
              .compressed = i(args.max_compressed()),
              .workspace_floats = 0,
              .factor = static_cast<float>(args.scale) * kLog2E};
  const int rep = p.heads / p.groups;
  const int64_t shared = (rep * p.dv + 1) / 2 * 8 + rep * 8;
  if (p.dk > kMostWidth || p.dv > kMostWidth || shared > 128 * 1024)
    Fail(__FILE__, __LINE__, "decode_branches: heads wider than 256, or too many in a group",
         cudaErrorInvalidValue);
  p.workspace_floats = (rep + 1) * int64_t{p.compressed} + args.max_length / args.select_block + 1;
  const int64_t batch = args.tokens.dim(0);
  const Workspace workspace(4 * batch * p.groups * p.workspace_floats, stream);
  p.workspace = workspace.As<float>();
  DispatchDeviceFloat(args.q.dtype, [&](auto tag) {
    LaunchGrid(BranchesKernel<typename decltype(tag)::type>,
               dim3(static_cast<unsigned>(p.groups), static_cast<unsigned>(batch)), kHeadThreads,
               shared, stream, p);
  });
}

}  // namespace lacuna::cuda
