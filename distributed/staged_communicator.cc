#include "distributed/staged_communicator.h"

#include <deque>
#include <utility>

#include "core/io/file.h"
#include "distributed/host_backed_communicator.h"

namespace lacuna {
namespace {

// What a collective does on its way through the host.
struct Stages {
  StagedCopies::Done downloaded;
  std::function<Request()> collective;  // of the buffers
  std::function<void()> upload;
};

class StagedOperation : public Request::Operation {
 public:
  StagedOperation(const Communicator& owner, const char* name, int64_t bytes, Stages stages)
      : owner_(owner), name_(name), bytes_(bytes), stages_(std::move(stages)) {}

  // True once the collective has begun.
  bool Start() {
    if (!started_ && stages_.downloaded()) {
      request_ = stages_.collective();
      started_ = true;
    }
    return started_;
  }
  // True once the upload has begun, behind which the compute stream is ordered.
  bool Finish() {
    if (!done_ && started_ && request_.Poll()) {
      stages_.upload();
      stages_ = {};
      done_ = true;
    }
    return done_;
  }

  bool Poll() override {
    owner_.progress().Poll();
    return done_;
  }
  double timeout_seconds() const override { return owner_.timeout_seconds(); }
  [[noreturn]] void Fail(double waited_seconds) override {
    if (started_) request_.Fail(waited_seconds);
    throw CommunicationError(
        fmt::format("{}: {} ({}): the device has not finished what comes before it within {:.1f} s",
                    owner_.Self(), name_, FormatBytes(bytes_), waited_seconds));
  }

 private:
  const Communicator& owner_;
  const char* name_;
  int64_t bytes_;
  Stages stages_;
  Request request_;
  bool started_ = false;
  bool done_ = false;
};

class StagedCommunicator : public HostBackedCommunicator, private Progress::Member {
 public:
  StagedCommunicator(std::shared_ptr<Communicator> host, std::shared_ptr<StagedCopies> copies)
      : HostBackedCommunicator(std::move(host)), copies_(std::move(copies)) {
    if (size() > 1) {
      staged_ = this->host().Split(0);
      staged_->set_name(name() + " (staged)");
    }
    progress().Add(this);
  }
  ~StagedCommunicator() override { progress().Remove(this); }

  std::unique_ptr<Communicator> Split(int color) override {
    return std::make_unique<StagedCommunicator>(host().Split(color), copies_);
  }

 private:
  bool OnDevice(const Tensor& tensor) const override { return copies_->Takes(tensor); }
  Request AllReduceOnDevice(Tensor tensor) override;
  Request ReduceScatterOnDevice(Tensor in, Tensor out) override;
  Request AllGatherOnDevice(Tensor in, Tensor out) override;
  Request AllToAllOnDevice(Tensor in, Tensor out, Rows rows) override;
  Request BroadcastOnDevice(Tensor tensor, int root) override;

  Tensor BufferOf(const Tensor& tensor) { return copies_->Buffer(tensor.shape(), tensor.dtype()); }
  Request Launch(const char* name, int64_t bytes, Stages stages);
  // From one tensor through buffers into another.
  Request Launch(const char* name, Tensor in, Tensor out,
                 std::function<Request(Tensor, Tensor)> collective);
  void Advance() override;

  std::shared_ptr<StagedCopies> copies_;
  std::unique_ptr<Communicator> staged_;                 // for the buffers
  std::deque<std::shared_ptr<StagedOperation>> active_;  // in order of their launch
};

Request StagedCommunicator::Launch(const char* name, int64_t bytes, Stages stages) {
  active_.push_back(std::make_shared<StagedOperation>(*this, name, bytes, std::move(stages)));
  Request request(active_.back());
  progress().Poll();
  return request;
}

Request StagedCommunicator::Launch(const char* name, Tensor in, Tensor out,
                                   std::function<Request(Tensor, Tensor)> collective) {
  const Tensor from = BufferOf(in), to = BufferOf(out);
  return Launch(name, in.bytes(),
                {.downloaded = copies_->Download(in, from),
                 // `in` stays until it is downloaded.
                 .collective = [=, keep = in] { return collective(from, to); },
                 .upload = [=, this] { copies_->Upload(to, out); }});
}

void StagedCommunicator::Advance() {
  // All ranks have to begin their collectives in the same order.
  for (const auto& operation : active_) {
    if (!operation->Start()) break;
  }
  std::erase_if(active_, [](const auto& operation) { return operation->Finish(); });
}

Request StagedCommunicator::AllReduceOnDevice(Tensor tensor) {
  const Tensor buffer = BufferOf(tensor);
  return Launch("all_reduce_sum", tensor.bytes(),
                {.downloaded = copies_->Download(tensor, buffer),
                 .collective = [=, this] { return staged_->AllReduceSum(buffer); },
                 .upload = [=, this] { copies_->Upload(buffer, tensor); }});
}

Request StagedCommunicator::ReduceScatterOnDevice(Tensor in, Tensor out) {
  return Launch("reduce_scatter_sum", std::move(in), std::move(out),
                [this](Tensor from, Tensor to) {
                  return staged_->ReduceScatterSum(std::move(from), std::move(to));
                });
}

Request StagedCommunicator::AllGatherOnDevice(Tensor in, Tensor out) {
  return Launch("all_gather_into", std::move(in), std::move(out), [this](Tensor from, Tensor to) {
    return staged_->AllGatherInto(std::move(from), std::move(to));
  });
}

Request StagedCommunicator::AllToAllOnDevice(Tensor in, Tensor out, Rows rows) {
  return Launch(
      "all_to_all_rows", std::move(in), std::move(out), [=, this](Tensor from, Tensor to) {
        return staged_->AllToAllRows(std::move(from), rows.send, std::move(to), rows.receive);
      });
}

Request StagedCommunicator::BroadcastOnDevice(Tensor tensor, int root) {
  const Tensor buffer = BufferOf(tensor);
  // The others' download is of nothing: it orders the upload only.
  const int64_t own = rank() == root ? tensor.numel() : 0;
  return Launch("broadcast", tensor.bytes(),
                {.downloaded = copies_->Download(tensor.View(0, {own}), buffer.View(0, {own})),
                 .collective = [=, this] { return staged_->Broadcast(buffer, root); },
                 .upload =
                     [=, this, is_root = rank() == root] {
                       if (!is_root) copies_->Upload(buffer, tensor);
                     }});
}

}  // namespace

std::unique_ptr<Communicator> MakeStagedCommunicator(std::shared_ptr<Communicator> host,
                                                     std::shared_ptr<StagedCopies> copies) {
  return std::make_unique<StagedCommunicator>(std::move(host), std::move(copies));
}

}  // namespace lacuna
