#include "moe/functions.h"

#include "autograd/saved_value.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "moe/grouped_matmul.h"
#include "moe/grouped_swiglu.h"
#include "moe/permute.h"

namespace lacuna {
namespace {

// x in `dtype`; x itself where it has it.
Tensor InType(const Tensor& x, DType dtype, Stream stream) {
  if (x.dtype() == dtype) return x;
  Tensor y = Tensor::Empty(x.shape(), dtype, x.device());
  ops::Cast({.x = x.Ref(), .y = y.MutableRef()}, stream);
  return y;
}

}  // namespace

Variable WideLinear(Tape& tape, const Variable& x, Parameter& weight) {
  const Stream stream = tape.stream();
  Tensor y =
      Tensor::Empty({x.dim(0), weight.shape[0]}, AccumulationType(x.dtype()), x.value().device());
  ops::MatMul(
      {.a = x.value().Ref(), .b = weight.value.Ref(), .c = y.MutableRef(), .transpose_b = true},
      stream);
  return tape.Record(
      "wide_linear", {x}, {&weight}, std::move(y),
      [stream, &weight, x = SavedTensor(x.value()), w = SavedValue(weight)](GradContext& g) {
        const Tensor& dy = g.dy();
        if (g.needs(0)) {
          Tensor dx = Tensor::Empty(x.get().shape(), dy.dtype(), dy.device());
          ops::MatMul(
              {.a = dy.Ref(), .b = InType(w.get(), dy.dtype(), stream).Ref(), .c = dx.MutableRef()},
              stream);
          g.Set(0, InType(dx, x.get().dtype(), stream));
        }
        g.Defer([stream, &weight, x, dy] {
          ops::MatMul({.a = dy.Ref(),
                       .b = InType(x.get(), dy.dtype(), stream).Ref(),
                       .c = weight.grad.MutableRef(),
                       .transpose_a = true,
                       .beta = 1},
                      stream);
        });
      });
}

namespace {

// What RoutedExperts' products work on, forward and backward.
struct ExpertPass {
  Stream stream;
  RoutedRows rows;

  Tensor New(int64_t columns, const Tensor& like) const {
    return Tensor::Empty({rows.count(), columns}, like.dtype(), like.device());
  }
  // x [N, C] by expert.
  Tensor ByExpert(const Tensor& x) const {
    Tensor y = New(x.dim(1), x);
    ops::PermuteRows({.x = x.Ref(), .position = rows.position.Ref(), .y = y.MutableRef()}, stream);
    return y;
  }
  // The sum of a token's rows.
  Tensor ByToken(const Tensor& x) const {
    Tensor y = Tensor::Empty({rows.position.dim(0), x.dim(1)}, x.dtype(), x.device());
    ops::UnpermuteRows(
        {.x = x.Ref(), .position = rows.position.Ref(), .w = {}, .y = y.MutableRef()}, stream);
    return y;
  }
  // x w.
  Tensor Product(const Tensor& x, const Tensor& w) const {
    Tensor y = New(w.dim(2), x);
    ops::GroupedMatMul({.x = x.Ref(),
                        .w = w.Ref(),
                        .offsets = rows.offsets.Ref(),
                        .y = y.MutableRef(),
                        .transpose_w = false,
                        .chunks = rows.chunks()},
                       stream);
    return y;
  }
  void AddGradient(const Tensor& dy, const Tensor& x, Parameter& weight) const {
    ops::GroupedMatMulDw({.dy = dy.Ref(),
                          .x = x.Ref(),
                          .offsets = rows.offsets.Ref(),
                          .dw = weight.grad.MutableRef(),
                          .accumulate = weight.AddsGradient(),
                          .chunks = rows.chunks()},
                         stream);
  }
};

// Forward, one chunk after the other. Between an expert's rows of a chunk stand those of others, so that
// backward finds its rows together: buffers are of all chunks.
class ExpertForward {
 public:
  ExpertForward(const ExpertPass& pass, const Tensor& x, const Tensor& weights,
                const Tensor& gate_up, const Tensor& down)
      : pass_(pass),
        x_(x),
        weights_(weights),
        gate_up_(gate_up),
        down_(down),
        by_expert_(pass.New(x.dim(1), x)),
        h_(pass.New(down.dim(2), x)) {}

  // Sets the chunk's rows of the pre-activations z.
  void SetHidden(int64_t chunk, Tensor& z) {
    const RoutedRows& rows = pass_.rows;
    ops::PermuteRows({.x = Of(x_, chunk).Ref(),
                      .position = Of(rows.position, chunk).Ref(),
                      .y = by_expert_.MutableRef(),
                      .some = rows.chunks() > 1},
                     pass_.stream);
    ops::GroupedSwiGlu({.x = by_expert_.Ref(),
                        .w = gate_up_.Ref(),
                        .offsets = rows.offsets.Ref(),
                        .z = z.MutableRef(),
                        .h = h_.MutableRef(),
                        .chunks = rows.chunks(),
                        .chunk = Which(chunk)},
                       pass_.stream);
  }
  // Then the chunk's tokens of y, which it returns.
  Tensor SetOutput(int64_t chunk, const Tensor& y) {
    const RoutedRows& rows = pass_.rows;
    Tensor out = Of(y, chunk);
    // What an expert makes of a row takes the row's place.
    ops::GroupedMatMul({.x = h_.Ref(),
                        .w = down_.Ref(),
                        .offsets = rows.offsets.Ref(),
                        .y = by_expert_.MutableRef(),
                        .chunks = rows.chunks(),
                        .chunk = Which(chunk)},
                       pass_.stream);
    ops::UnpermuteRows({.x = by_expert_.Ref(),
                        .position = Of(rows.position, chunk).Ref(),
                        .w = Of(weights_, chunk).Ref(),
                        .y = out.MutableRef()},
                       pass_.stream);
    return out;
  }

 private:
  int64_t Which(int64_t chunk) const { return pass_.rows.chunks() == 1 ? kAllChunks : chunk; }
  Tensor Of(const Tensor& tokens, int64_t chunk) const {
    const std::vector<int64_t>& begins = pass_.rows.chunk_begins;
    if (begins.empty()) return tokens;
    const auto at = static_cast<size_t>(chunk);
    return tokens.Slice(begins[at], begins[at + 1]);
  }

  const ExpertPass& pass_;
  const Tensor &x_, &weights_, &gate_up_, &down_;
  Tensor by_expert_, h_;
};

}  // namespace

Variable RoutedExperts(Tape& tape, const Variable& x, const Variable& weights,
                       const RoutedRows& rows, Parameter& gate_up, Parameter& down,
                       const ChunkTraffic& traffic, bool y_is_read) {
  const ExpertPass pass{tape.stream(), rows};
  Tensor z = pass.New(gate_up.shape[1], x.value()),
         y = y_is_read ? Tensor::EmptyLike(x.value()) : Tensor::MetaLike(x.value());
  {
    ExpertForward forward(pass, x.value(), weights.value(), gate_up.value, down.value);
    for (int64_t chunk = 0; chunk < rows.chunks(); ++chunk) {
      if (traffic.arrive) traffic.arrive(chunk);
      forward.SetHidden(chunk, z);
      if (!y_is_read) continue;
      const Tensor of_chunk = forward.SetOutput(chunk, y);
      if (traffic.leave) traffic.leave(chunk, of_chunk);
    }
  }
  return tape.Record(
      "routed_experts", {x, weights}, {&gate_up, &down}, std::move(y),
      [stream = tape.stream(), &gate_up, &down, x = SavedTensor(x.value()),
       weights = SavedTensor(weights.value()), offsets = SavedTensor(rows.offsets),
       position = SavedTensor(rows.position), up_w = SavedValue(gate_up), down_w = SavedValue(down),
       z, num_choices = rows.num_choices,
       chunk_begins = rows.chunk_begins](GradContext& g) mutable {
        const ExpertPass pass{stream, {offsets.get(), position.get(), num_choices, chunk_begins}};
        const Tensor dy = pass.ByExpert(g.dy());
        // The gradient of z takes its place: nothing else reads it.
        Tensor dz = std::move(z), wh = pass.New(down.shape[2], dy),
               dweights = Tensor::EmptyLike(weights.get());
        ops::RoutedSwiGluBwd({.dy = dy.Ref(),
                              .down = down_w.get().Ref(),
                              .offsets = pass.rows.offsets.Ref(),
                              .z = dz.Ref(),
                              .position = pass.rows.position.Ref(),
                              .w = weights.get().Ref(),
                              .dz = dz.MutableRef(),
                              .wh = wh.MutableRef(),
                              .dw = dweights.MutableRef(),
                              .chunks = pass.rows.chunks()},
                             pass.stream);
        if (g.needs(1)) g.Set(1, std::move(dweights));
        if (g.needs(0)) g.Set(0, pass.ByToken(pass.Product(dz, up_w.get())));
        g.Defer([pass, &gate_up, &down, dy, wh, dz, x] {
          pass.AddGradient(dy, wh, down);
          pass.AddGradient(dz, pass.ByExpert(x.get()), gate_up);
        });
      });
}

}  // namespace lacuna
