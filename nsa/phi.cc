#include "nsa/phi.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "autograd/saved_value.h"
#include "core/ops/matmul.h"
#include "nsa/block_gather.h"
#include "nsa/phi_activation.h"

namespace lacuna {
namespace {

// Standard deviation that keeps a matrix product's variance (He et al., 2015, without the factor
// for ReLU).
double FanIn(int64_t inputs) {
  return 1.0 / std::sqrt(static_cast<double>(inputs));
}

// w and w1 before training: unit matrices of `width` side by side, and their negatives every other
// time below.
Init StartOfFirst(int64_t width, int64_t block) {
  const double value = 1 / std::sqrt(static_cast<double>(block));
  return Init::Function([=, columns = block * width](int64_t k) {
    const int64_t row = k / columns, column = k % columns;
    if (row % width != column % width) return 0.0;
    return row / width % 2 == 0 ? value : -value;
  });
}

// w2: [I, -I, I, -I, ...] / pairs, and zero for a unit without a partner, if it is not the only one.
Init StartOfSecond(int64_t width, int64_t hidden) {
  const int64_t pairs = std::max<int64_t>(hidden / 2, 1);
  return Init::Function([=, columns = hidden * width](int64_t k) {
    const int64_t row = k / columns, unit = k % columns / width;
    if (row != k % width || unit >= 2 * pairs) return 0.0;
    return (unit % 2 == 0 ? 1.0 : -1.0) / static_cast<double>(pairs);
  });
}

// c = op(a) op(b) of rows that have the bits they would have among others: op(a) is a.
void RowsProduct(const Tensor& a, const Tensor& b, Tensor* c, bool transpose_b, Stream stream) {
  ops::MatMul({.a = a.Ref(),
               .b = b.Ref(),
               .c = c->MutableRef(),
               .transpose_b = transpose_b,
               .batch_invariant = true},
              stream);
}

// grad += dy^T x.
void AddWeightGradient(const Tensor& dy, const Tensor& x, Tensor* grad, Stream stream) {
  ops::MatMul(
      {.a = dy.Ref(), .b = x.Ref(), .c = grad->MutableRef(), .transpose_a = true, .beta = 1},
      stream);
}

}  // namespace

Phi::Phi(int64_t width, const NsaConfig& config, bool mean_start) : config_(config) {
  const int64_t fan = config.block * width, hidden = config.phi_hidden * width;
  if (config.phi == PhiKind::kMean) return;
  pos_ = &AddParameter("pos", {config.block, width}, Init::Normal(0.02));
  const Init first = mean_start ? StartOfFirst(width, config.block) : Init::Normal(FanIn(fan));
  if (config.phi == PhiKind::kLinear) {
    w1_ = &AddParameter("w", {width, fan}, first);
    return;
  }
  w1_ = &AddParameter("w1", {hidden, fan}, first);
  w2_ = &AddParameter(
      "w2", {width, hidden},
      mean_start ? StartOfSecond(width, config.phi_hidden) : Init::Normal(FanIn(hidden)));
}

Phi::Products Phi::Multiply(const Tensor& x, const Tensor& cmp_tokens, int64_t stride, Tensor y,
                            Stream stream) const {
  const int64_t rows = y.dim(0) * y.dim(1), width = y.dim(2);
  Products p{.blocks = Tensor::Empty({rows, config_.block * width}, x.dtype(), x.device()),
             .hidden_in = {},
             .hidden = {}};
  ops::GatherBlocksFwd({.x = x.Ref(),
                        .pos = pos_->value.Ref(),
                        .blocks = p.blocks.MutableRef(),
                        .cmp_tokens = cmp_tokens.Ref(),
                        .block = config_.block,
                        .stride = stride},
                       stream);
  Tensor flat = y.Reshape({rows, width});
  if (config_.phi != PhiKind::kMlp) {
    RowsProduct(p.blocks, w1_->value, &flat, /*transpose_b=*/true, stream);
    return p;
  }
  p.hidden_in = Tensor::Empty({rows, w1_->shape[0]}, x.dtype(), x.device());
  p.hidden = Tensor::EmptyLike(p.hidden_in);
  RowsProduct(p.blocks, w1_->value, &p.hidden_in, /*transpose_b=*/true, stream);
  ops::PhiActivationFwd({p.hidden_in.Ref(), p.hidden.MutableRef(), config_.activation}, stream);
  RowsProduct(p.hidden, w2_->value, &flat, /*transpose_b=*/true, stream);
  return p;
}

Tensor Phi::CompressApart(const Tensor& x, Stream stream) const {
  const Tensor y =
      Tensor::Empty({x.dim(0) / config_.block, x.dim(1), x.dim(2)}, x.dtype(), x.device());
  if (config_.phi == PhiKind::kMean) {
    Tensor out = y;
    ops::BlockMeanFwd(
        {.x = x.Ref(), .y = out.MutableRef(), .block = config_.block, .stride = config_.block},
        stream);
  } else {
    Multiply(x, {}, config_.block, y, stream);
  }
  return y;
}

Variable Phi::Compress(Tape& tape, const Variable& x, const std::shared_ptr<const NsaGrid>& grid) {
  const Stream stream = tape.stream();
  const int64_t groups = x.dim(1), width = x.dim(2), rows = grid->num_compressed() * groups;
  const NsaConfig& config = config_;
  const Device device = x.value().device();
  Tensor y = Tensor::Empty({grid->num_compressed(), groups, width}, x.dtype(), device);

  if (config.phi == PhiKind::kMean) {
    ops::BlockMeanFwd({.x = x.value().Ref(),
                       .y = y.MutableRef(),
                       .cmp_tokens = grid->cmp_tokens.Ref(),
                       .block = config.block,
                       .stride = config.stride},
                      stream);
    return tape.Record("phi_mean", {x}, {}, y, [=, shape_of = x.value()](GradContext& g) {
      Tensor dx = Tensor::EmptyLike(shape_of);
      ops::BlockMeanBwd({.dy = g.dy().Ref(),
                         .dx = dx.MutableRef(),
                         .token_blocks = grid->token_blocks.Ref(),
                         .block = config.block,
                         .stride = config.stride},
                        stream);
      g.Set(0, std::move(dx));
    });
  }

  const bool mlp = config.phi == PhiKind::kMlp;
  const Products products = Multiply(x.value(), grid->cmp_tokens, config.stride, y, stream);
  const auto& [blocks, hidden_in, hidden] = products;
  std::vector<Parameter*> parameters{pos_, w1_};
  if (mlp) parameters.push_back(w2_);
  return tape.Record(
      "phi", {x}, parameters, y,
      [=, this, x = SavedTensor(x.value()), w1 = SavedValue(*w1_),
       w2 = mlp ? SavedValue(*w2_) : SavedValue(), blocks = SavedTensor(blocks),
       hidden_in = SavedTensor(hidden_in), hidden = SavedTensor(hidden)](GradContext& g) {
        const Tensor dy = g.dy().Reshape({rows, width});
        Tensor da = dy;
        if (mlp) {
          da = Tensor::Empty({rows, w1_->shape[0]}, dy.dtype(), device);
          RowsProduct(dy, w2.get(), &da, /*transpose_b=*/false, stream);
          AddWeightGradient(dy, hidden.get(), &w2_->grad, stream);
          ops::PhiActivationBwd(
              {hidden_in.get().Ref(), da.Ref(), da.MutableRef(), config.activation}, stream);
        }
        AddWeightGradient(da, blocks.get(), &w1_->grad, stream);
        Tensor dblocks = Tensor::Empty({rows, config.block * width}, dy.dtype(), device);
        RowsProduct(da, w1.get(), &dblocks, /*transpose_b=*/false, stream);
        Tensor dx = Tensor::EmptyLike(x.get());
        ops::GatherBlocksBwd({.dblocks = dblocks.Ref(),
                              .dx = dx.MutableRef(),
                              .dpos = pos_->grad.MutableRef(),
                              .cmp_tokens = grid->cmp_tokens.Ref(),
                              .token_blocks = grid->token_blocks.Ref(),
                              .block = config.block,
                              .stride = config.stride},
                             stream);
        g.Set(0, std::move(dx));
      });
}

}  // namespace lacuna
