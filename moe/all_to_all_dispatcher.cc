#include <optional>
#include <utility>

#include "core/memory_category.h"
#include "distributed/communicator.h"
#include "distributed/moving_rows.h"
#include "moe/dispatcher.h"
#include "moe/expert_load.h"
#include "moe/moving_chunks.h"
#include "moe/permute.h"
#include "moe/rank_rows.h"

namespace lacuna {
namespace {

// One forward's rows and the way of their gradients back, shared by the tape's nodes.
struct Journey {
  Communicator& group;
  Stream stream;
  int64_t num_experts, chunks;
  SavedTensor ids;                             // [N, K]
  Tensor position = {};                        // [N, M]: rows by chunk and rank
  ChunkRows away = {}, here = {};              // rows that go to ranks, and that come from them
  MovingRows dy = {}, dx = {}, dweights = {};  // in backward

  Tensor New(int64_t rows, int64_t columns, const Tensor& like, DType dtype) const {
    return Tensor::Empty({rows, columns}, dtype, like.device());
  }
  // x [N, C] by chunk and rank, [rows away, C].
  Tensor ByRank(const Tensor& x) const {
    const MemoryScope scope(MemoryCategory::kCommunication);
    Tensor y = New(away.total(), x.dim(1), x, x.dtype());
    ops::PermuteRows({.x = x.Ref(), .position = position.Ref(), .y = y.MutableRef()}, stream);
    return y;
  }
  // The sum of a token's rows [rows away, C] over the ranks, in rank order: [N, C].
  Tensor ByToken(const Tensor& rows) const {
    Tensor y = New(position.dim(0), rows.dim(1), rows, rows.dtype());
    ops::UnpermuteRows({.x = rows.Ref(), .position = position.Ref(), .w = {}, .y = y.MutableRef()},
                       stream);
    return y;
  }
  MovingRows Move(Tensor rows, const ChunkRows& send, const ChunkRows& receive) const {
    Tensor out = New(receive.total(), rows.dim(1), rows, rows.dtype());
    Request request = group.AllToAllRows(rows, send.all(), out, receive.all());
    return {std::move(rows), std::move(out), std::move(request)};
  }
  MovingRows ToExperts(Tensor rows) const { return Move(std::move(rows), away, here); }
  MovingRows Home(Tensor rows) const { return Move(std::move(rows), here, away); }
};

// The tape's edge between the halves of a way: the rows are in the Journey, where they may not be
// touched before they arrive.
Tensor Edge(const Tensor& like) {
  return Tensor::Empty({0}, like.dtype(), like.device());
}

class AllToAllExchange : public Exchange {
 public:
  AllToAllExchange(Tape& tape, const Variable& x, const Tensor& ids, const Variable& weights,
                   int64_t num_experts, Communicator& group, int64_t chunks)
      : tape_(tape),
        journey_(new Journey{group, tape.stream(), num_experts, chunks, SavedTensor(ids)}),
        width_(x.dim(1)),
        groups_here_(num_experts / group.size() * chunks) {
    Tensor by_rank;
    ExchangeCounts(ids, [&] {
      by_rank = journey_->ByRank(x.value());
      PackChoices(ids, weights.value());
    });
    ids_ = journey_->ToExperts(std::move(ids_.sent));
    weights_ = journey_->ToExperts(std::move(weights_.sent));
    SendTokens(by_rank);
    edge_ = tape_.Record("dispatch_begin", {x, weights}, {}, Edge(x.value()),
                         [&tape, journey = journey_](GradContext& g) {
                           const Tensor dx = journey->dx.Arrive(),
                                        dweights = journey->dweights.Arrive();
                           if (g.needs(0)) g.Set(0, journey->ByToken(dx));
                           if (g.needs(1)) g.Set(1, ReturnWeights(*journey, dweights));
                           tape.HoldDeferred(true);
                         });
  }

  DispatchedTokens FinishDispatch() override {
    const Tensor ids = ids_.Arrive();
    RoutedRows rows{.offsets = Tensor::Empty({groups_here_ + 1}, DType::kI64, ids.device()),
                    .position = Tensor::EmptyLike(ids),
                    .num_choices = num_choices_};
    if (journey_->chunks > 1) rows.chunk_begins = journey_->here.begins();
    ops::SortByExpert({.ids = ids.Ref(),
                       .offsets = rows.offsets.MutableRef(),
                       .position = rows.position.MutableRef(),
                       .may_be_none = true},
                      tape_.stream());
    std::vector<Tensor> there;
    there.push_back(x_->received());
    there.push_back(weights_.Arrive());
    std::vector<Variable> out =
        tape_.RecordMany("dispatch_finish", {edge_}, {}, std::move(there),
                         [&tape = tape_, journey = journey_](GradContext& g) {
                           journey->dx = journey->Home(g.dy(0));
                           journey->dweights = journey->Home(g.dy(1));
                           // The experts' weight gradients follow this node, with the rows under way.
                           tape.HoldDeferred(false);
                           g.Set(0, Edge(g.dy()));
                         });
    const ChunkTraffic traffic{
        .arrive = [this](int64_t chunk) { x_->Wait(chunk); },
        .leave = [this](int64_t chunk, const Tensor& y) { Leave(chunk, y); }};
    return {std::move(out[0]), std::move(out[1]), std::move(rows), traffic};
  }

  void BeginCombine(const Variable& y) override {
    x_.reset();
    edge_ = tape_.Record("combine_begin", {y}, {}, Edge(y.value()),
                         [&tape = tape_, journey = journey_](GradContext& g) {
                           // Of what stands between the halves: under the way, and gone before the
                           // experts' turn.
                           tape.RunDeferred();
                           g.Set(0, journey->dy.Arrive());
                           tape.HoldDeferred(true);
                         });
  }

  Variable FinishCombine() override {
    return tape_.Record("combine_finish", {edge_}, {}, SumOverRanks(),
                        [&tape = tape_, journey = journey_](GradContext& g) {
                          journey->dy = journey->ToExperts(journey->ByRank(g.dy()));
                          tape.RunDeferred();
                          g.Set(0, Edge(g.dy()));
                        });
  }

 private:
  void Leave(int64_t chunk, const Tensor& y) {
    const Journey& j = *journey_;
    if (chunk == 0)
      y_.emplace(j.group, j.New(j.away.total(), y.dim(1), y, y.dtype()), j.here, j.away);
    y_->Launch(y);
  }

  // Numbers of rows and choices to and from every rank; `meanwhile` runs while they are under way.
  void ExchangeCounts(const Tensor& ids, const std::function<void()>& meanwhile) {
    Journey& j = *journey_;
    const int64_t ranks = j.group.size();
    const std::vector<int64_t> one(static_cast<size_t>(ranks), 1);
    Tensor rank_of = Tensor::Empty({ids.dim(0), ranks}, DType::kI32, ids.device()),
           offsets = Tensor::Empty({ranks * j.chunks + 1}, DType::kI64, ids.device());
    j.position = Tensor::EmptyLike(rank_of);
    ops::TokenRanks({.ids = ids.Ref(),
                     .ranks = rank_of.MutableRef(),
                     .num_experts = j.num_experts,
                     .chunks = j.chunks},
                    j.stream);
    ops::SortByExpert({.ids = rank_of.Ref(),
                       .offsets = offsets.MutableRef(),
                       .position = j.position.MutableRef(),
                       .may_be_none = true},
                      j.stream);
    Tensor received = Tensor::Empty({ranks, j.chunks + 1}, DType::kI64);
    Request request;
    const Tensor sent = tape_.Decide([&]() -> std::vector<Tensor> {
      Tensor load = Tensor::Empty({1, j.num_experts}, DType::kF64, ids.device()),
             counts = Tensor::Empty({ranks, j.chunks + 1}, DType::kI64, ids.device());
      ops::CountChoices({.ids = ids.Ref(), .counts = load.MutableRef()}, j.stream);
      ops::RankCounts({.offsets = offsets.Ref(), .load = load.Ref(), .counts = counts.MutableRef()},
                      j.stream);
      const Tensor on_host = counts.To(kCpu);
      request = j.group.AllToAllRows(on_host, one, received, one);
      return {on_host};
    })[0];
    j.away = RowCounts(sent);
    meanwhile();
    received = tape_.Decide([&]() -> std::vector<Tensor> {
      request.Wait();
      return {received};
    })[0];
    j.here = RowCounts(received);
    num_choices_ = 0;
    for (int64_t r = 0; r < ranks; ++r)
      num_choices_ += received.data<int64_t>()[r * (j.chunks + 1) + j.chunks];
  }

  // counts: [M, P + 1] (moe/rank_rows.h).
  static ChunkRows RowCounts(const Tensor& counts) {
    std::vector<int64_t> rows;
    for (int64_t p = 0; p + 1 < counts.dim(1); ++p) {
      for (int64_t r = 0; r < counts.dim(0); ++r)
        rows.push_back(counts.data<int64_t>()[r * counts.dim(1) + p]);
    }
    return {std::move(rows), counts.dim(0)};
  }

  void SendTokens(const Tensor& by_rank) {
    const Journey& j = *journey_;
    x_.emplace(j.group, j.New(j.here.total(), by_rank.dim(1), by_rank, by_rank.dtype()), j.away,
               j.here);
    for (int64_t p = 0; p < j.chunks; ++p) x_->Launch(j.away.Of(p, by_rank));
  }

  void PackChoices(const Tensor& ids, const Tensor& weights) {
    const Journey& j = *journey_;
    const MemoryScope scope(MemoryCategory::kCommunication);
    const int64_t rows = j.away.total();
    ids_.sent = j.New(rows, ids.dim(1), ids, DType::kI32);
    weights_.sent = j.New(rows, ids.dim(1), ids, weights.dtype());
    ops::SendChoices({.ids = ids.Ref(),
                      .weights = weights.Ref(),
                      .position = j.position.Ref(),
                      .sent_ids = ids_.sent.MutableRef(),
                      .sent_weights = weights_.sent.MutableRef(),
                      .num_experts = j.num_experts,
                      .chunks = j.chunks},
                     j.stream);
  }

  static Tensor ReturnWeights(const Journey& j, const Tensor& sent) {
    const Tensor& ids = j.ids.get();
    Tensor weights = Tensor::Empty(ids.shape(), sent.dtype(), sent.device());
    ops::ReturnWeights({.sent_weights = sent.Ref(),
                        .ids = ids.Ref(),
                        .position = j.position.Ref(),
                        .weights = weights.MutableRef(),
                        .num_experts = j.num_experts},
                       j.stream);
    return weights;
  }

  Tensor SumOverRanks() {
    if (!y_.has_value()) {
      return Tensor::Meta({journey_->position.dim(0), width_}, edge_.dtype(),
                          edge_.value().device());
    }
    Tensor y = journey_->ByToken(y_->WaitForAll());
    y_.reset();
    return y;
  }

  Tape& tape_;
  std::shared_ptr<Journey> journey_;
  int64_t width_, groups_here_, num_choices_ = 0;  // groups: of rows, an expert's of a chunk
  MovingRows ids_, weights_;
  std::optional<MovingChunks> x_, y_;  // while they are on their way
  Variable edge_;
};

}  // namespace

AllToAllDispatcher::AllToAllDispatcher(int64_t num_experts, Communicator& group, int64_t chunks)
    : num_experts_(num_experts), group_(group), chunks_(chunks) {
  LACUNA_CHECK(num_experts % group.size() == 0, "{} experts on {} ranks", num_experts,
               group.size());
  LACUNA_CHECK(chunks > 0, "tokens in {} chunks", chunks);
}

std::unique_ptr<Exchange> AllToAllDispatcher::BeginDispatch(Tape& tape, const Variable& x,
                                                            const Tensor& ids,
                                                            const Variable& weights) {
  return std::make_unique<AllToAllExchange>(tape, x, ids, weights, num_experts_, group_, chunks_);
}

}  // namespace lacuna
