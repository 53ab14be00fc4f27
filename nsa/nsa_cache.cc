#include "nsa/nsa_cache.h"

#include <algorithm>
#include <cmath>

#include "autograd/functions/attention.h"
#include "autograd/functions/rope.h"
#include "nsa/gate_combine.h"
#include "nsa/select_blocks.h"
#include "nsa/selected_attention.h"

namespace lacuna {
namespace {

// Rows [begin, end) of x to `target` from row `row` on, whole runs at a time. Both are rings: row t is
// at t mod their size.
void CopyAround(const Tensor& x, int64_t begin, int64_t end, Tensor* target, int64_t row) {
  const int64_t from = x.dim(0), to = target->dim(0);
  while (begin < end) {
    const int64_t source = begin % from, place = row % to;
    const int64_t run = std::min({end - begin, from - source, to - place});
    target->Slice(place, place + run).CopyFrom(x.Slice(source, source + run));
    begin += run;
    row += run;
  }
}

// The last rows of x into a ring: row t goes to t mod size.
void FillRing(const Tensor& x, int64_t size, Tensor* ring) {
  const int64_t length = x.dim(0), begin = std::max<int64_t>(0, length - size);
  if (!ring->defined()) *ring = Tensor::Zeros({size, x.dim(1), x.dim(2)}, x.dtype(), x.device());
  CopyAround(x, begin, length, ring, begin);
}

void PutInRing(const Tensor& row, int64_t t, int64_t size, Tensor* ring) {
  if (!ring->defined())
    *ring = Tensor::Zeros({size, row.dim(1), row.dim(2)}, row.dtype(), row.device());
  ring->Slice(t % size, t % size + 1).CopyFrom(row);
}

}  // namespace

NsaStep::NsaStep(const NsaConfig& config, int64_t length, Device device)
    : length(length),
      compressed(NumCompressed(length, config.block, config.stride)),
      in_window(std::min(config.window, length)) {
  const auto n = [](int64_t count) { return static_cast<int32_t>(count); };
  // One upload: parts of a tensor, each at a multiple of 16 bytes.
  const std::vector<int32_t> ints = {
      n(length - 1), 0, 0, 0, 0, 1, 0, 0, 0, n(length), 0, 0, 0, n(compressed), 0, 0, 0,
      n(in_window),  0, 0};
  const Tensor all = Tensor::FromVector(ints, {static_cast<int64_t>(ints.size())}).To(device);
  const auto first_rows = [&](int64_t at) -> AttentionRanges {
    return {all.View(at, {1, 2}), all.View(4, {2}), all.View(at, {2})};
  };
  position = all.View(0, {1});
  cu_slc = all.View(8, {2});
  cmp = first_rows(12);
  win = first_rows(16);
}

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
  CopyAround(k_raw_, t - l + 1, t + 1, &k, 0);
  CopyAround(v_raw_, t - l + 1, t + 1, &v, 0);
  k_cmp_.Append(
      Rope(tape, phi_k.Compress(tape, Variable(k), block_grid_), step_->position, rope).value());
  v_cmp_.Append(phi_v.Compress(tape, Variable(v), block_grid_).value());
}

void NsaCache::Append(const NsaInputs& token, Phi& phi_k, Phi& phi_v, const RopeTable& rope,
                      Stream stream, std::shared_ptr<const NsaStep> step) {
  Tape tape(Tape::Mode::kInference, stream);
  const int64_t t = length_++;
  if (step == nullptr)
    step = std::make_shared<const NsaStep>(config_, length_, token.q.value().device());
  LACUNA_CHECK(step->length == length_, "a step to {} tokens on a cache that then holds {}",
               step->length, length_);
  step_ = std::move(step);
  const Tensor& position = step_->position;
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
  const int64_t groups = token.k_slc.dim(1);
  const Device device = token.q.value().device();
  const NsaStep& step = *step_;
  const Variable q = Rope(tape, token.q, step.position, rope);
  const Tensor k_cmp = step.compressed > 0
                           ? k_cmp_.rows()
                           : Tensor::Empty({0, groups, token.q.dim(2)}, q.dtype(), device);
  const Tensor v_cmp = step.compressed > 0
                           ? v_cmp_.rows()
                           : Tensor::Empty({0, groups, token.v_slc.dim(2)}, q.dtype(), device);
  Tensor lse;
  const Variable o_cmp =
      AttentionOverRanges(tape, q, Variable(k_cmp), Variable(v_cmp), step.cmp, scale, &lse);
  Tensor blocks = Tensor::Empty({1, groups, config_.num_selected}, DType::kI32, device);
  ops::SelectBlocks({.q = q.value().Ref(),
                     .k_cmp = k_cmp.Ref(),
                     .lse = lse.Ref(),
                     .ranges = step.cmp.ranges.Ref(),
                     .positions = step.position.Ref(),
                     .cu_queries = step.cmp.cu_queries.Ref(),
                     .cu_keys = step.cmp.cu_keys.Ref(),
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
  Tensor o_slc = Tensor::EmptyLike(o_cmp.value()), lse_slc = Tensor::EmptyLike(lse);
  ops::SelectedAttentionFwd({.q = q.value().Ref(),
                             .k = k_slc_.rows().Ref(),
                             .v = v_slc_.rows().Ref(),
                             .blocks = blocks.Ref(),
                             .positions = step.position.Ref(),
                             .cu_queries = step.cmp.cu_queries.Ref(),
                             .cu_keys = step.cu_slc.Ref(),
                             .o = o_slc.MutableRef(),
                             .lse = lse_slc.MutableRef(),
                             .scale = scale,
                             .select_block = config_.select_block},
                            stream);
  const Variable o_win =
      AttentionOverRanges(tape, q, Variable(k_win_.Slice(0, step.in_window)),
                          Variable(v_win_.Slice(0, step.in_window)), step.win, scale);
  blocks_ = blocks;
  if (blocks_out != nullptr) *blocks_out = blocks;
  Tensor o = Tensor::EmptyLike(o_slc);
  ops::GateCombineFwd({.gate = token.gate.value().Ref(),
                       .o_cmp = o_cmp.value().Ref(),
                       .o_slc = o_slc.Ref(),
                       .o_win = o_win.value().Ref(),
                       .o = o.MutableRef()},
                      stream);
  return o;
}

int64_t NsaCache::tokens_read() const {
  if (!blocks_.defined()) return 0;
  const Tensor on_host = blocks_.To(kCpu);
  const int32_t* list = on_host.data<int32_t>();
  int64_t read = step_->compressed + step_->in_window;
  for (int64_t b = 0; b < config_.num_selected && list[b] >= 0; ++b)
    read += std::min(config_.select_block, length_ - list[b] * config_.select_block);
  return read;
}

}  // namespace lacuna
