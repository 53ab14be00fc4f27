#include "nsa/nsa_cache.h"

#include <algorithm>
#include <cmath>

#include "core/ops/cache_rows.h"
#include "nsa/decode_branches.h"

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

Tensor RingLike(const Tensor& x, int64_t size) {
  return Tensor::Zeros({size, x.dim(1), x.dim(2)}, x.dtype(), x.device());
}

// The last rows of x into a ring: row t goes to t mod size.
void FillRing(const Tensor& x, int64_t size, Tensor* ring) {
  const int64_t length = x.dim(0), begin = std::max<int64_t>(0, length - size);
  *ring = RingLike(x, size);
  CopyAround(x, begin, length, ring, begin);
}

bool CompletesBlock(const NsaConfig& config, int64_t length) {
  return length >= config.block && (length - config.block) % config.stride == 0;
}

}  // namespace

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
  length_ = inputs.v_slc.dim(0);
}

void NsaCache::Grow(const NsaInputs& like) {
  const Tensor &k = like.k_slc.value(), &v = like.v_slc.value();
  ++length_;
  k_slc_.Extend(1, k);
  v_slc_.Extend(1, v);
  if (CompletesBlock(config_, length_)) {
    k_cmp_.Extend(1, k);
    v_cmp_.Extend(1, v);
  }
  if (k_win_.defined()) return;
  k_win_ = RingLike(k, config_.window);
  v_win_ = RingLike(v, config_.window);
  k_raw_ = RingLike(k, config_.block);
  v_raw_ = RingLike(v, config_.block);
}

void NsaCache::AddAddresses(std::vector<int64_t>* addresses) {
  void* columns[kNumCacheColumns];
  columns[kKeySlc] = k_slc_.data();
  columns[kValueSlc] = v_slc_.data();
  columns[kKeyCmp] = k_cmp_.data();
  columns[kValueCmp] = v_cmp_.data();
  columns[kKeyWin] = k_win_.MutableRef().data;
  columns[kValueWin] = v_win_.MutableRef().data;
  columns[kKeyRaw] = k_raw_.MutableRef().data;
  columns[kValueRaw] = v_raw_.MutableRef().data;
  for (const void* column : columns) addresses->push_back(AddressOf(column));
}

int64_t NsaCache::tokens_read() const {
  if (!blocks_.defined()) return 0;
  const Tensor on_host = blocks_.To(kCpu);
  const int32_t* list = on_host.data<int32_t>();
  int64_t read =
      NumCompressed(length_, config_.block, config_.stride) + std::min(config_.window, length_);
  for (int64_t b = 0; b < config_.num_selected && list[b] >= 0; ++b)
    read += std::min(config_.select_block, length_ - list[b] * config_.select_block);
  return read;
}

NsaStep::NsaStep(const NsaConfig& config, const std::vector<NewToken>& new_tokens, Device device) {
  std::vector<int32_t> all, of_completed;
  for (size_t i = 0; i < new_tokens.size(); ++i) {
    const NewToken& token = new_tokens[i];
    const auto sequence = static_cast<int64_t>(i);
    max_length = std::max(max_length, token.length);
    AddToken(token, sequence, &all);
    const auto row = static_cast<int64_t>(of_completed.size()) / 4;
    if (CompletesBlock(config, token.length))
      AddToken({row, token.length}, sequence, &of_completed);
  }
  const auto batch = static_cast<int64_t>(new_tokens.size()),
             blocks = static_cast<int64_t>(of_completed.size()) / 4;
  all.insert(all.end(), of_completed.begin(), of_completed.end());
  const Tensor both = Tensor::FromVector(all, {batch + blocks, 4}).To(device);  // one upload
  tokens = both.Slice(0, batch);
  completed = both.Slice(batch, batch + blocks);
}

std::shared_ptr<const NsaStep> NsaStep::Of(const PackedSequences& sequences,
                                           const NsaConfig& config,
                                           const std::vector<NewToken>& tokens) {
  return sequences.Derived<NsaStep>(
      fmt::format("nsa_step.{}.{}.{}", config.block, config.stride, KeyOf(tokens)),
      [&] { return NsaStep(config, tokens, sequences.device()); });
}

namespace {

void CompressCompleted(const NsaInputs& in, const NsaStep& step, const Tensor& addresses,
                       const NsaConfig& config, const Phi& phi_k, const Phi& phi_v,
                       const RopeTable& rope, Stream stream) {
  const int64_t rows = step.completed.dim(0) * config.block;
  if (rows == 0) return;
  const auto recent = [&](const Variable& like, int column) {
    Tensor x = Tensor::Empty({rows, like.dim(1), like.dim(2)}, like.dtype(), addresses.device());
    ops::RecentRows({.tokens = step.completed.Ref(),
                     .addresses = addresses.Ref(),
                     .y = x.MutableRef(),
                     .column = column,
                     .count = config.block},
                    stream);
    return x;
  };
  const Tensor k = phi_k.CompressApart(recent(in.k_cmp, kKeyRaw), stream),
               v = phi_v.CompressApart(recent(in.v_cmp, kValueRaw), stream);
  const auto part = [&](const Tensor& x, int column, bool rotate) {
    return CacheRows{.x = x.Ref(),
                     .column = column,
                     .rotate = rotate,
                     .first = config.block - 1,
                     .stride = config.stride};
  };
  ops::AppendRows(step.completed.Ref(), addresses.Ref(), rope.cos().Ref(), rope.sin().Ref(),
                  {part(k, kKeyCmp, true), part(v, kValueCmp, false)}, stream);
}

}  // namespace

void DecodeNsa(const NsaInputs& in, const NsaStep& step, const Tensor& addresses,
               const NsaConfig& config, const Phi& phi_k, const Phi& phi_v, const RopeTable& rope,
               Stream stream, Tensor* o, Tensor* blocks) {
  const auto part = [](const Variable& x, int column, bool rotate) {
    return CacheRows{.x = x.value().Ref(), .column = column, .rotate = rotate};
  };
  const auto ring = [&](const Variable& x, int column, bool rotate, int64_t size) {
    CacheRows rows = part(x, column, rotate);
    rows.ring = size;
    return rows;
  };
  Tensor q = Tensor::EmptyLike(in.q.value());
  ops::AppendRows(step.tokens.Ref(), addresses.Ref(), rope.cos().Ref(), rope.sin().Ref(),
                  {{.x = in.q.value().Ref(), .y = q.MutableRef(), .rotate = true},
                   part(in.k_slc, kKeySlc, true),
                   part(in.v_slc, kValueSlc, false),
                   ring(in.k_win, kKeyWin, true, config.window),
                   ring(in.v_win, kValueWin, false, config.window),
                   ring(in.k_cmp, kKeyRaw, false, config.block),
                   ring(in.v_cmp, kValueRaw, false, config.block)},
                  stream);
  CompressCompleted(in, step, addresses, config, phi_k, phi_v, rope, stream);
  ops::DecodeBranches({.q = q.Ref(),
                       .gate = in.gate.value().Ref(),
                       .tokens = step.tokens.Ref(),
                       .addresses = addresses.Ref(),
                       .o = o->MutableRef(),
                       .blocks = blocks->MutableRef(),
                       .scale = 1.0 / std::sqrt(static_cast<double>(in.q.dim(2))),
                       .groups = in.k_slc.dim(1),
                       .max_length = step.max_length,
                       .block = config.block,
                       .stride = config.stride,
                       .select_block = config.select_block,
                       .num_init = config.num_init,
                       .num_local = config.num_local,
                       .window = config.window},
                      stream);
}

}  // namespace lacuna
