#include "nsa/nsa_cache.h"

#include <algorithm>
#include <cmath>

#include "autograd/functions/attention.h"
#include "autograd/functions/rope.h"
#include "nsa/select_blocks.h"

namespace lacuna {
namespace {

Tensor Ints(std::vector<int32_t> values, Shape shape, Device device) {
  return Tensor::FromVector(values, std::move(shape)).To(device);
}

// Rows [length - count, length) of x into a ring: row t goes to t mod size.
void FillRing(const Tensor& x, int64_t size, Tensor* ring) {
  const int64_t length = x.dim(0);
  if (!ring->defined()) *ring = Tensor::Zeros({size, x.dim(1), x.dim(2)}, x.dtype(), x.device());
  for (int64_t t = std::max<int64_t>(0, length - size); t < length; ++t)
    ring->Slice(t % size, t % size + 1).CopyFrom(x.Slice(t, t + 1));
}

void PutInRing(const Tensor& row, int64_t t, int64_t size, Tensor* ring) {
  if (!ring->defined())
    *ring = Tensor::Zeros({size, row.dim(1), row.dim(2)}, row.dtype(), row.device());
  ring->Slice(t % size, t % size + 1).CopyFrom(row);
}

// One query that sees the first `keys` rows.
AttentionRanges FirstRows(int64_t keys, Device device) {
  const auto n = static_cast<int32_t>(keys);
  return {Ints({0, n}, {1, 2}, device), Ints({0, 1}, {2}, device), Ints({0, n}, {2}, device)};
}

}  // namespace

NsaCache::NsaCache(const NsaConfig& config)
    : config_(config),
      block_grid_(std::make_shared<NsaGrid>(PackedSequences::Single(config.block), config)) {}

void NsaCache::FillFromPrompt(const NsaInputs& inputs, const NsaResult& result) {
  LACUNA_CHECK(length_ == 0, "a prompt needs an empty cache, this one holds {} tokens", length_);
  k_slc_.Append(result.k_slc);
  v_slc_.Append(inputs.v_slc.value());
  k_cmp_.Append(result.k_cmp);
  v_cmp_.Append(result.v_cmp);
  FillRing(result.k_win, config_.window, &k_win_);
  FillRing(inputs.v_win.value(), config_.window, &v_win_);
  FillRing(inputs.k_cmp.value(), config_.block, &k_raw_);
  FillRing(inputs.v_cmp.value(), config_.block, &v_raw_);
  length_ = inputs.q.dim(0);
}

void NsaCache::CompleteBlock(Tape& tape, Phi& phi_k, Phi& phi_v, const RopeTable& rope) {
  const int64_t t = length_ - 1, l = config_.block;
  if (t < l - 1 || (t - (l - 1)) % config_.stride != 0) return;
  Tensor k = Tensor::EmptyLike(k_raw_), v = Tensor::EmptyLike(v_raw_);
  for (int64_t u = 0; u < l; ++u) {
    const int64_t row = (t - l + 1 + u) % l;
    k.Slice(u, u + 1).CopyFrom(k_raw_.Slice(row, row + 1));
    v.Slice(u, u + 1).CopyFrom(v_raw_.Slice(row, row + 1));
  }
  k_cmp_.Append(Rope(tape, phi_k.Compress(tape, Variable(k), block_grid_),
                     Ints({static_cast<int32_t>(t)}, {1}, k.device()), rope)
                    .value());
  v_cmp_.Append(phi_v.Compress(tape, Variable(v), block_grid_).value());
}

void NsaCache::Append(const NsaInputs& token, Phi& phi_k, Phi& phi_v, const RopeTable& rope,
                      Stream stream) {
  Tape tape(Tape::Mode::kInference, stream);
  const int64_t t = length_++;
  const Tensor position = Ints({static_cast<int32_t>(t)}, {1}, token.q.value().device());
  k_slc_.Append(Rope(tape, token.k_slc, position, rope).value());
  v_slc_.Append(token.v_slc.value());
  PutInRing(Rope(tape, token.k_win, position, rope).value(), t, config_.window, &k_win_);
  PutInRing(token.v_win.value(), t, config_.window, &v_win_);
  PutInRing(token.k_cmp.value(), t, config_.block, &k_raw_);
  PutInRing(token.v_cmp.value(), t, config_.block, &v_raw_);
  CompleteBlock(tape, phi_k, phi_v, rope);
}

Tensor NsaCache::Attend(const NsaInputs& token, const RopeTable& rope, Stream stream,
                        Tensor* blocks_out) {
  Tape tape(Tape::Mode::kInference, stream);
  const double scale = 1.0 / std::sqrt(static_cast<double>(token.q.dim(2)));
  const int64_t heads = token.q.dim(1), groups = token.k_slc.dim(1);
  const Device device = token.q.value().device();
  const Tensor position = Ints({static_cast<int32_t>(length_ - 1)}, {1}, device);
  const Variable q = Rope(tape, token.q, position, rope);
  const int64_t compressed = k_cmp_.size(), in_window = std::min(config_.window, length_);
  const Tensor k_cmp = compressed > 0
                           ? k_cmp_.rows()
                           : Tensor::Empty({0, groups, token.q.dim(2)}, q.dtype(), device);
  const Tensor v_cmp = compressed > 0
                           ? v_cmp_.rows()
                           : Tensor::Empty({0, groups, token.v_slc.dim(2)}, q.dtype(), device);
  const AttentionRanges visible = FirstRows(compressed, device);
  Tensor lse;
  const Variable o_cmp =
      AttentionOverRanges(tape, q, Variable(k_cmp), Variable(v_cmp), visible, scale, &lse);
  Tensor blocks = Tensor::Empty({1, groups, config_.num_selected}, DType::kI32, device);
  ops::SelectBlocks({.q = q.value().Ref(),
                     .k_cmp = k_cmp.Ref(),
                     .lse = lse.Ref(),
                     .ranges = visible.ranges.Ref(),
                     .positions = position.Ref(),
                     .cu_queries = visible.cu_queries.Ref(),
                     .cu_keys = visible.cu_keys.Ref(),
                     .blocks = blocks.MutableRef(),
                     .scores = {},
                     .entropy = {},
                     .scale = scale,
                     .block = config_.block,
                     .stride = config_.stride,
                     .select_block = config_.select_block,
                     .num_init = config_.num_init,
                     .num_local = config_.num_local},
                    stream);
  const Variable o_slc =
      SelectedAttention(tape, q, Variable(k_slc_.rows()), Variable(v_slc_.rows()), blocks, position,
                        visible.cu_queries, Ints({0, static_cast<int32_t>(length_)}, {2}, device),
                        config_.select_block, scale);
  const Variable o_win = AttentionOverRanges(tape, q, Variable(k_win_.Slice(0, in_window)),
                                             Variable(v_win_.Slice(0, in_window)),
                                             FirstRows(in_window, device), scale);
  const Tensor on_host = blocks.To(kCpu);
  const int32_t* list = on_host.data<int32_t>();
  tokens_read_ = compressed + in_window;
  for (int64_t b = 0; b < config_.num_selected && list[b] >= 0; ++b) {
    tokens_read_ += std::min(config_.select_block, length_ - list[b] * config_.select_block);
  }
  if (blocks_out != nullptr) *blocks_out = blocks;
  return GateCombine(tape, token.gate, o_cmp, o_slc, o_win)
      .value()
      .Reshape({1, heads, token.v_slc.dim(2)});
}

}  // namespace lacuna
