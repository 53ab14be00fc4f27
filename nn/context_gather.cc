#include "nn/context_gather.h"

#include <utility>
#include <vector>

#include "core/memory_category.h"
#include "core/ops/embedding.h"
#include "core/ops/reduce.h"
#include "distributed/moving_rows.h"

namespace lacuna {
namespace {

// The tape's edge between the two steps: the rows are in the Journey.
Tensor Edge(const Tensor& like) {
  return Tensor::Empty({0}, like.dtype(), like.device());
}

}  // namespace

// Rows on their way: forward those of all ranks, backward their gradients home.
struct ContextGather::Journey {
  Journey(const ContextShare& context, Stream on) : share(context), stream(on) {}

  const ContextShare& share;
  Stream stream;
  MovingRows rows;

  int64_t ranks() const { return share.group().size(); }

  // y[i] = x[order[i]] of rows [N, ...].
  Tensor Ordered(const Tensor& x, const Tensor& order) const {
    Tensor y = Tensor::EmptyLike(x);
    ops::EmbeddingFwd({.w = x.Reshape({x.dim(0), -1}).Ref(),
                       .ids = order.Ref(),
                       .y = y.Reshape({x.dim(0), -1}).MutableRef()},
                      stream);
    return y;
  }

  void Send(const Tensor& x) {
    const MemoryScope scope(MemoryCategory::kCommunication);
    Shape shape = x.shape();
    shape[0] *= ranks();
    Tensor all = Tensor::Empty(shape, x.dtype(), x.device());
    rows = {x, all, share.group().AllGatherInto(x, all)};
  }
  void SendHome(const Tensor& dy) {
    const MemoryScope scope(MemoryCategory::kCommunication);
    const std::vector<int64_t> each(static_cast<size_t>(ranks()), share.num_rows());
    const Tensor sent = Ordered(dy, share.to_rank_order()), received = Tensor::EmptyLike(sent);
    rows = {sent, received, share.group().AllToAllRows(sent, each, received, each)};
  }
  // The sum over the ranks.
  Tensor ArriveHome() {
    const Tensor parts = rows.Arrive();
    Shape shape = parts.shape();
    shape[0] /= ranks();
    Tensor dx = Tensor::Empty(shape, parts.dtype(), parts.device());
    ops::SumParts({.x = parts.Reshape({ranks(), -1}).Ref(), .y = dx.Reshape({-1}).MutableRef()},
                  stream);
    return dx;
  }
};

ContextGather::ContextGather(Tape& tape, const ContextShare& share, const Variable& x)
    : tape_(tape), journey_(std::make_shared<Journey>(share, tape.stream())) {
  LACUNA_CHECK(x.dim(0) == share.num_rows(), "{} rows of a rank that has {}", x.dim(0),
               share.num_rows());
  journey_->Send(x.value());
  edge_ = tape.Record("context_gather_begin", {x}, {}, Edge(x.value()),
                      [journey = journey_](GradContext& g) { g.Set(0, journey->ArriveHome()); });
}

Variable ContextGather::Finish() {
  const Tensor by_rank = journey_->rows.Arrive();
  return tape_.Record("context_gather_finish", {edge_}, {},
                      journey_->Ordered(by_rank, journey_->share.to_micro_batch_order()),
                      [journey = journey_](GradContext& g) {
                        journey->SendHome(g.dy());
                        g.Set(0, Edge(g.dy()));
                      });
}

}  // namespace lacuna
