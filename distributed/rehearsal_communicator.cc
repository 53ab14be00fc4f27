#include "distributed/rehearsal_communicator.h"

#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/memory_category.h"
#include "distributed/collective_arguments.h"

namespace lacuna {
namespace {

using Collective = CollectiveRecorder::Collective;

// Copies go through a block that stays in the cache of a card.
constexpr int64_t kScratchBytes = int64_t{2} << 20;

double Real(int64_t n) {
  return static_cast<double>(n);
}

class RehearsedOperation : public Request::Operation {
 public:
  RehearsedOperation(CollectiveRecorder* recorder, int64_t number, std::vector<Tensor> tensors)
      : recorder_(recorder), number_(number), tensors_(std::move(tensors)) {}
  bool Poll() override { return true; }
  bool WaitOnStream() override {
    if (recorder_ != nullptr) recorder_->Waited(number_);
    tensors_.clear();
    return true;
  }
  double timeout_seconds() const override { return 0; }
  void Fail(double) override {
    throw CommunicationError("a rehearsed collective waits for nobody");
  }

 private:
  CollectiveRecorder* recorder_;
  int64_t number_;
  std::vector<Tensor> tensors_;  // in use until it is waited for, as those of a real one
};

class RehearsalCommunicator : public Communicator {
 public:
  explicit RehearsalCommunicator(const RehearsedRank& rank) : rank_(rank) {
    LACUNA_CHECK(rank.size > 0 && rank.rank >= 0 && rank.rank < rank.size,
                 "a rehearsal of rank {} of {}", rank.rank, rank.size);
  }

  int rank() const override { return rank_.rank; }
  int size() const override { return rank_.size; }
  std::unique_ptr<Communicator> Split(int) override {
    throw CommunicationError("a rehearsed rank knows nobody whom it could be split from");
  }

  Request AllReduceSum(Tensor tensor) override {
    CheckSum("all_reduce_sum", tensor);
    return Launch(CollectiveKind::kAllReduce, 2 * Others() * Real(tensor.bytes()), {tensor},
                  [&] { ReadAndWrite(tensor); });
  }
  Request ReduceScatterSum(Tensor in, Tensor out) override {
    CheckSum("reduce_scatter_sum", in);
    CheckParts("reduce_scatter_sum", out, in, size());
    return Launch(CollectiveKind::kReduceScatter, Others() * Real(in.bytes()), {in, out}, [&] {
      Read(in);
      CopyUnlessSame(in.View(rank() * out.numel(), {out.numel()}), out);
    });
  }
  Request AllGatherInto(Tensor in, Tensor out) override {
    CheckParts("all_gather_into", in, out, size());
    return Launch(CollectiveKind::kAllGather, Others() * Real(out.bytes()), {in, out}, [&] {
      if (rank_.peers != nullptr && rank_.peers->Gather(in, out, rank())) return;
      if (!in.SharesStorage(out)) return Repeat(in.View(0, {in.numel()}), out);
      CopyUnlessSame(in, out.View(rank() * in.numel(), {in.numel()}));
      ReadAndWrite(out);
    });
  }
  Request AllToAllRows(Tensor in, std::vector<int64_t> send_rows, Tensor out,
                       std::vector<int64_t> receive_rows) override {
    CheckTotal("send", send_rows, in);
    CheckTotal("receive", receive_rows, out);
    const int64_t row_bytes = out.dim(0) == 0 ? 0 : out.bytes() / out.dim(0);
    const auto remote = [&](const std::vector<int64_t>& rows) {
      int64_t sum = Sum(rows);
      for (auto own = static_cast<size_t>(rank()); own < rows.size();
           own += static_cast<size_t>(size()))
        sum -= rows[own];
      return sum;
    };
    return Launch(
        CollectiveKind::kAllToAll,
        Real(std::max(remote(send_rows), remote(receive_rows)) * row_bytes), {in, out}, [&] {
          if (rank_.peers != nullptr && rank_.peers->Receive(in, send_rows, out, receive_rows))
            return;
          Repeat(in, out);
        });
  }
  Request Broadcast(Tensor tensor, int) override {
    return Launch(CollectiveKind::kBroadcast, size() > 1 ? Real(tensor.bytes()) : 0, {tensor},
                  [&] { ReadAndWrite(tensor); });
  }
  Request AllGather(std::string bytes, std::vector<std::string>* all) override {
    all->assign(static_cast<size_t>(size()), bytes);
    return {};
  }
  Request AllToAll(std::vector<std::string> sent, std::vector<std::string>* received) override {
    *received = std::move(sent);
    return {};
  }
  Request Barrier() override { return {}; }
  void Poll() override {}
  void Abort(int exit_code) override { ::_exit(exit_code); }

 private:
  static int64_t Sum(const std::vector<int64_t>& rows) {
    return std::accumulate(rows.begin(), rows.end(), int64_t{0});
  }
  void CheckTotal(const char* side, const std::vector<int64_t>& rows, const Tensor& tensor) const {
    LACUNA_CHECK(!rows.empty() && rows.size() % static_cast<size_t>(size()) == 0 &&
                     Sum(rows) == tensor.dim(0),
                 "all_to_all_rows: rows to {} are {}, the tensor is {} for {} ranks", side,
                 fmt::join(rows, " + "), ToString(tensor.shape()), size());
  }
  double Others() const { return Real(size() - 1) / Real(size()); }

  template <class Copies>
  Request Launch(CollectiveKind kind, double link_bytes, std::vector<Tensor> tensors,
                 const Copies& copies) {
    const bool on_host = tensors[0].device() != rank_.device;
    CollectiveRecorder* recorder = rank_.recorder;
    const int64_t number =
        recorder == nullptr ? 0 : recorder->Launched({kind, link_bytes, on_host});
    copies();
    if (recorder != nullptr) recorder->Copied(number);
    return Request(std::make_shared<RehearsedOperation>(recorder, number, std::move(tensors)));
  }

  // work(piece of the tensor, scratch of its size).
  template <class Work>
  void InPieces(const Tensor& tensor, const Work& work) {
    const MemoryScope scope(MemoryCategory::kCommunication);
    const int64_t most = kScratchBytes / SizeOf(tensor.dtype());
    const int64_t total = tensor.numel();
    Tensor scratch = Tensor::Empty({std::min(most, total)}, tensor.dtype(), tensor.device());
    for (int64_t begin = 0; begin < total; begin += most) {
      const int64_t count = std::min(most, total - begin);
      Tensor block = scratch.View(0, {count});
      work(tensor.View(begin, {count}), block);
    }
  }
  void Read(const Tensor& tensor) {
    InPieces(tensor, [](const Tensor& piece, Tensor& scratch) { scratch.CopyFrom(piece); });
  }
  void ReadAndWrite(const Tensor& tensor) {
    InPieces(tensor, [](Tensor piece, Tensor& scratch) {
      scratch.CopyFrom(piece);
      piece.CopyFrom(scratch);
    });
  }

  static void CopyUnlessSame(const Tensor& from, Tensor to) {
    if (from.numel() == 0 || from.Ref().data == to.Ref().data) return;
    to.View(0, {to.numel()}).CopyFrom(from.View(0, {from.numel()}));
  }

  // The rows of `in` from the first on, as often as `out` has room.
  static void Repeat(const Tensor& in, Tensor out) {
    if (in.dim(0) == 0) return out.Zero();
    for (int64_t begin = 0; begin < out.dim(0); begin += in.dim(0)) {
      const int64_t rows = std::min(in.dim(0), out.dim(0) - begin);
      out.Slice(begin, begin + rows).CopyFrom(in.Slice(0, rows));
    }
  }

  RehearsedRank rank_;
};

}  // namespace

const char* NameOf(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kAllReduce:
      return "all-reduce";
    case CollectiveKind::kReduceScatter:
      return "reduce-scatter";
    case CollectiveKind::kAllGather:
      return "all-gather";
    case CollectiveKind::kAllToAll:
      return "all-to-all";
    case CollectiveKind::kBroadcast:
      return "broadcast";
  }
  return "";
}

std::unique_ptr<Communicator> MakeRehearsalCommunicator(const RehearsedRank& rank) {
  return std::make_unique<RehearsalCommunicator>(rank);
}

}  // namespace lacuna
