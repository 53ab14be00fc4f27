#include "nsa/phi.h"

#include <cmath>
#include <utility>
#include <vector>

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

struct Document {
  int64_t begin, end;          // token rows
  int64_t cmp_begin, cmp_end;  // compressed rows
};

std::vector<Document> DocumentsWithBlocks(const NsaGrid& grid) {
  std::vector<Document> documents;
  for (size_t d = 0; d + 1 < grid.host_cu_seqlens.size(); ++d) {
    const Document document{grid.host_cu_seqlens[d], grid.host_cu_seqlens[d + 1],
                            grid.host_cu_cmp[d], grid.host_cu_cmp[d + 1]};
    if (document.cmp_end > document.cmp_begin) documents.push_back(document);
  }
  return documents;
}

// Tokens in no complete block have no gradient; those of documents without any block are written
// here.
Tensor EmptyGradient(const Tensor& x, const NsaGrid& grid) {
  Tensor dx = Tensor::EmptyLike(x);
  for (size_t d = 0; d + 1 < grid.host_cu_seqlens.size(); ++d) {
    if (grid.host_cu_cmp[d + 1] == grid.host_cu_cmp[d])
      dx.Slice(grid.host_cu_seqlens[d], grid.host_cu_seqlens[d + 1]).Zero();
  }
  return dx;
}

void Product(const Tensor& a, const Tensor& b, Tensor c, bool transpose_a, bool transpose_b,
             double beta, Stream stream) {
  ops::MatMul({.a = a.Ref(),
               .b = b.Ref(),
               .c = c.MutableRef(),
               .transpose_a = transpose_a,
               .transpose_b = transpose_b,
               .beta = beta},
              stream);
}

}  // namespace

Phi::Phi(int64_t width, const NsaConfig& config) : config_(config) {
  const int64_t fan = config.block * width, hidden = config.phi_hidden * width;
  if (config.phi == PhiKind::kMean) return;
  pos_ = &AddParameter("pos", {config.block, width}, Init::Normal(0.02));
  if (config.phi == PhiKind::kLinear) {
    w1_ = &AddParameter("w", {width, fan}, Init::Normal(FanIn(fan)));
    return;
  }
  w1_ = &AddParameter("w1", {hidden, fan}, Init::Normal(FanIn(fan)));
  w2_ = &AddParameter("w2", {width, hidden}, Init::Normal(FanIn(hidden)));
}

Phi::Products Phi::NewProducts(int64_t rows, int64_t groups, const Tensor& y) const {
  const int64_t width = y.dim(-1);
  const auto matrix = [&](int64_t columns) {
    return Tensor::Empty({rows * groups, columns}, y.dtype(), y.device());
  };
  Products p{.blocks = matrix(config_.block * width),
             .hidden_in = {},
             .hidden = {},
             .y = y.Reshape({rows * groups, width})};
  if (config_.phi == PhiKind::kMlp) {
    p.hidden_in = matrix(w1_->shape[0]);
    p.hidden = matrix(w1_->shape[0]);
  }
  return p;
}

void Phi::Multiply(const Tensor& x, int64_t stride, int64_t begin, int64_t end, const Products& p,
                   Stream stream) const {
  Tensor blocks = p.blocks.Slice(begin, end);
  ops::GatherBlocksFwd({x.Ref(), pos_->value.Ref(), blocks.MutableRef(), config_.block, stride},
                       stream);
  if (config_.phi != PhiKind::kMlp)
    return Product(blocks, w1_->value, p.y.Slice(begin, end), false, true, 0, stream);
  Product(blocks, w1_->value, p.hidden_in.Slice(begin, end), false, true, 0, stream);
  Tensor hidden = p.hidden.Slice(begin, end);
  ops::PhiActivationFwd(
      {p.hidden_in.Slice(begin, end).Ref(), hidden.MutableRef(), config_.activation}, stream);
  Product(hidden, w2_->value, p.y.Slice(begin, end), false, true, 0, stream);
}

Tensor Phi::CompressApart(const Tensor& x, Stream stream) const {
  const int64_t rows = x.dim(0) / config_.block, groups = x.dim(1);
  Tensor y = Tensor::Empty({rows, groups, x.dim(2)}, x.dtype(), x.device());
  if (config_.phi == PhiKind::kMean) {
    ops::BlockMeanFwd({x.Ref(), y.MutableRef(), config_.block, config_.block}, stream);
  } else {
    Multiply(x, config_.block, 0, rows * groups, NewProducts(rows, groups, y), stream);
  }
  return y;
}

Variable Phi::Compress(Tape& tape, const Variable& x, const std::shared_ptr<const NsaGrid>& grid) {
  const Stream stream = tape.stream();
  const int64_t groups = x.dim(1), width = x.dim(2), rows = grid->num_compressed();
  const auto documents = DocumentsWithBlocks(*grid);
  const NsaConfig& config = config_;
  Tensor y = Tensor::Empty({rows, groups, width}, x.dtype(), x.value().device());

  if (config.phi == PhiKind::kMean) {
    for (const Document& d : documents) {
      Tensor out = y.Slice(d.cmp_begin, d.cmp_end);
      ops::BlockMeanFwd(
          {x.value().Slice(d.begin, d.end).Ref(), out.MutableRef(), config.block, config.stride},
          stream);
    }
    return tape.Record("phi_mean", {x}, {}, y, [=, shape_of = x.value()](GradContext& g) {
      Tensor dx = EmptyGradient(shape_of, *grid);
      for (const Document& d : documents) {
        Tensor out = dx.Slice(d.begin, d.end);
        ops::BlockMeanBwd({g.dy().Slice(d.cmp_begin, d.cmp_end).Ref(), out.MutableRef(),
                           config.block, config.stride},
                          stream);
      }
      g.Set(0, std::move(dx));
    });
  }

  const bool mlp = config.phi == PhiKind::kMlp;
  const Products products = NewProducts(rows, groups, y);
  const Tensor blocks = products.blocks, hidden_in = products.hidden_in, hidden = products.hidden;
  for (const Document& d : documents) {
    Multiply(x.value().Slice(d.begin, d.end), config.stride, d.cmp_begin * groups,
             d.cmp_end * groups, products, stream);
  }

  std::vector<Parameter*> parameters{pos_, w1_};
  if (mlp) parameters.push_back(w2_);
  return tape.Record(
      "phi", {x}, parameters, y,
      [=, this, x = SavedTensor(x.value()), w1 = SavedTensor(w1_->value),
       w2 = mlp ? SavedTensor(w2_->value) : SavedTensor(), blocks = SavedTensor(blocks),
       hidden_in = SavedTensor(hidden_in), hidden = SavedTensor(hidden)](GradContext& g) {
        Tensor dx = EmptyGradient(x.get(), *grid);
        for (const Document& d : documents) {
          const int64_t begin = d.cmp_begin * groups, end = d.cmp_end * groups;
          const Tensor dy = g.dy().Slice(d.cmp_begin, d.cmp_end).Reshape({end - begin, width});
          Tensor da = dy;
          if (mlp) {
            da = Tensor::Empty({end - begin, w1_->shape[0]}, dy.dtype(), dy.device());
            Product(dy, w2.get(), da, false, false, 0, stream);
            Product(dy, hidden.get().Slice(begin, end), w2_->grad, true, false, 1, stream);
            ops::PhiActivationBwd({hidden_in.get().Slice(begin, end).Ref(), da.Ref(),
                                   da.MutableRef(), config.activation},
                                  stream);
          }
          Product(da, blocks.get().Slice(begin, end), w1_->grad, true, false, 1, stream);
          Tensor dblocks =
              Tensor::Empty({end - begin, config.block * width}, dy.dtype(), dy.device());
          Product(da, w1.get(), dblocks, false, false, 0, stream);
          Tensor out = dx.Slice(d.begin, d.end);
          ops::GatherBlocksBwd({dblocks.Ref(), out.MutableRef(), pos_->grad.MutableRef(),
                                config.block, config.stride},
                               stream);
        }
        g.Set(0, std::move(dx));
      });
}

}  // namespace lacuna
