#include "distributed/nccl_communicator.h"

#include <atomic>
#include <deque>
#include <utility>

#include "core/cuda/check.h"
#include "core/cuda/event.h"
#include "core/io/file.h"
#include "core/stream.h"
#include "distributed/host_backed_communicator.h"
#include "distributed/nccl_handle.h"

namespace lacuna {
namespace {

ncclDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kI32:
      return ncclInt32;
    case DType::kI64:
      return ncclInt64;
    default:
      LACUNA_CHECK(false, "NCCL: no sum of {}", NameOf(dtype));
  }
}

const char* Bytes(const Tensor& tensor) {
  return static_cast<const char*>(tensor.Ref().data);
}
char* Bytes(Tensor& tensor) {
  return static_cast<char*>(tensor.MutableRef().data);
}

// Where a collective stands on the device, for any thread.
struct DeviceProgress {
  cuda::Event ready, done;
  std::atomic<bool> launched = false;  // `done` is recorded

  OperationLog::OnDevice State() const {
    using enum OperationLog::OnDevice;
    if (!launched) return kQueued;
    // Of a device that failed, the thread that uses it is told.
    return done.Reached() ? kDone : ready.Reached() ? kRunning : kQueued;
  }
};

class NcclCommunicator;

class NcclOperation : public Request::Operation {
 public:
  NcclOperation(NcclCommunicator& owner, std::string what, std::vector<Tensor> tensors)
      : owner_(owner), what_(std::move(what)), tensors_(std::move(tensors)) {}

  bool Poll() override;
  bool WaitOnStream() override;
  double timeout_seconds() const override;
  [[noreturn]] void Fail(double waited_seconds) override;

  bool Done() const { return progress->done.Done(); }
  const std::shared_ptr<DeviceProgress> progress = std::make_shared<DeviceProgress>();
  int64_t log_id = 0;

 private:
  NcclCommunicator& owner_;
  std::string what_;
  std::vector<Tensor> tensors_;  // until the compute stream is ordered behind it
};

class NcclCommunicator : public HostBackedCommunicator {
 public:
  NcclCommunicator(std::shared_ptr<Communicator> host, Device device)
      : HostBackedCommunicator(std::move(host)), device_(device), compute_(ComputeStream(device)) {
    if (size() == 1) return;
    LACUNA_CUDA_CHECK(cudaSetDevice(device.index));
    handle_ = std::make_unique<NcclHandle>(this->host());
    // Before kernels of the compute stream where both have blocks to start: peers wait for it.
    int least = 0, greatest = 0;
    LACUNA_CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    LACUNA_CUDA_CHECK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest));
  }
  ~NcclCommunicator() override {
    handle_.reset();
    for (const auto& operation : active_) log().End(operation->log_id);
    if (stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stream_));
  }

  std::string LogName() const override { return name() + " (NCCL)"; }
  std::unique_ptr<Communicator> Split(int color) override {
    return std::make_unique<NcclCommunicator>(host().Split(color), device_);
  }
  void Poll() override {
    Sweep();
    if (handle_ != nullptr) handle_->Check("poll");
    host().Poll();
  }

  NcclHandle& handle() { return *handle_; }
  Stream compute() const { return compute_; }

 private:
  bool OnDevice(const Tensor& tensor) const override { return tensor.device() == device_; }
  Request AllReduceOnDevice(Tensor tensor) override;
  Request ReduceScatterOnDevice(Tensor in, Tensor out) override;
  Request AllGatherOnDevice(Tensor in, Tensor out) override;
  Request AllToAllOnDevice(Tensor in, Tensor out, Rows rows) override;
  Request BroadcastOnDevice(Tensor tensor, int root) override;

  using Work = std::function<ncclResult_t(ncclComm_t)>;
  Request Launch(const char* name, int64_t bytes, std::vector<Tensor> tensors, const Work& work);
  // Lets go of what the device is through with.
  void Sweep() {
    for (; !active_.empty() && active_.front()->Done(); active_.pop_front())
      log().End(active_.front()->log_id);
  }

  Device device_;
  Stream compute_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<NcclHandle> handle_;
  int64_t sequence_ = 0;
  std::deque<std::shared_ptr<NcclOperation>> active_;  // in the stream's order
};

bool NcclOperation::Poll() {
  owner_.handle().Check(what_);
  owner_.progress().Poll();
  if (!Done()) return false;
  tensors_.clear();
  return true;
}

bool NcclOperation::WaitOnStream() {
  owner_.handle().Check(what_);
  progress->done.MakeWait(static_cast<cudaStream_t>(owner_.compute().handle));
  tensors_.clear();  // memory is freed in the compute stream's order
  return true;
}

double NcclOperation::timeout_seconds() const {
  return owner_.timeout_seconds();
}

void NcclOperation::Fail(double waited_seconds) {
  const std::string diagnosis = owner_.log().Diagnose(log_id);
  owner_.handle().Abort();
  throw CommunicationError(fmt::format("{}: {}: not done within {:.1f} s{}{}", owner_.Self(), what_,
                                       waited_seconds, diagnosis.empty() ? "" : "; ", diagnosis));
}

Request NcclCommunicator::Launch(const char* name, int64_t bytes, std::vector<Tensor> tensors,
                                 const Work& work) {
  Sweep();
  const std::string what = fmt::format("{} #{} ({})", name, sequence_, FormatBytes(bytes));
  auto operation = std::make_shared<NcclOperation>(*this, what, std::move(tensors));
  const std::shared_ptr<DeviceProgress> progress = operation->progress;
  progress->ready.Record(static_cast<cudaStream_t>(compute_.handle));
  progress->ready.MakeWait(stream_);
  operation->log_id = LogBegin(name, sequence_++, bytes, [progress] { return progress->State(); });
  handle_->Launch(what, work);
  progress->done.Record(stream_);
  progress->launched = true;
  active_.push_back(operation);
  return Request(std::move(operation));
}

Request NcclCommunicator::AllReduceOnDevice(Tensor tensor) {
  if (tensor.numel() == 0) return {};
  char* data = Bytes(tensor);
  return Launch("all_reduce_sum", tensor.bytes(), {tensor}, [&](ncclComm_t comm) {
    return ncclAllReduce(data, data, static_cast<size_t>(tensor.numel()), TypeOf(tensor.dtype()),
                         ncclSum, comm, stream_);
  });
}

Request NcclCommunicator::ReduceScatterOnDevice(Tensor in, Tensor out) {
  if (out.numel() == 0) return {};
  const char* from = Bytes(std::as_const(in));
  char* to = Bytes(out);
  return Launch("reduce_scatter_sum", in.bytes(), {in, out}, [&](ncclComm_t comm) {
    return ncclReduceScatter(from, to, static_cast<size_t>(out.numel()), TypeOf(out.dtype()),
                             ncclSum, comm, stream_);
  });
}

Request NcclCommunicator::AllGatherOnDevice(Tensor in, Tensor out) {
  if (in.numel() == 0) return {};
  const char* from = Bytes(std::as_const(in));
  char* to = Bytes(out);
  return Launch("all_gather_into", out.bytes(), {in, out}, [&](ncclComm_t comm) {
    return ncclAllGather(from, to, static_cast<size_t>(in.bytes()), ncclUint8, comm, stream_);
  });
}

Request NcclCommunicator::AllToAllOnDevice(Tensor in, Tensor out, Rows rows) {
  const char* from = Bytes(std::as_const(in));
  char* to = Bytes(out);
  const RowParts& parts = rows.parts;
  return Launch("all_to_all_rows", in.bytes(), {in, out}, [&](ncclComm_t comm) {
    for (int own = rank(); own < parts.rounds * size(); own += size()) {
      const auto at = static_cast<size_t>(own);
      if (const int64_t bytes = parts.SendBytes(own); bytes > 0) {
        LACUNA_CUDA_CHECK(cudaMemcpyAsync(to + parts.receive[at], from + parts.send[at],
                                          static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice,
                                          stream_));
      }
    }
    ncclResult_t result = ncclGroupStart();
    const auto add = [&](ncclResult_t one) {
      if (one != ncclSuccess && one != ncclInProgress) result = one;
    };
    // Within a group, what goes from one rank to another arrives in the order of its calls.
    for (int i = 0; i < parts.rounds * size(); ++i) {
      const int peer = i % size();
      if (peer == rank()) continue;
      const auto at = static_cast<size_t>(i);
      if (const auto bytes = static_cast<size_t>(parts.SendBytes(i)); bytes > 0)
        add(ncclSend(from + parts.send[at], bytes, ncclUint8, peer, comm, stream_));
      if (const auto bytes = static_cast<size_t>(parts.ReceiveBytes(i)); bytes > 0)
        add(ncclRecv(to + parts.receive[at], bytes, ncclUint8, peer, comm, stream_));
    }
    const ncclResult_t group = ncclGroupEnd();
    return result == ncclSuccess ? group : result;
  });
}

Request NcclCommunicator::BroadcastOnDevice(Tensor tensor, int root) {
  if (tensor.numel() == 0) return {};
  char* data = Bytes(tensor);
  return Launch("broadcast", tensor.bytes(), {tensor}, [&](ncclComm_t comm) {
    return ncclBroadcast(data, data, static_cast<size_t>(tensor.bytes()), ncclUint8, root, comm,
                         stream_);
  });
}

}  // namespace

std::unique_ptr<Communicator> MakeNcclCommunicator(std::shared_ptr<Communicator> host,
                                                   Device device) {
  return std::make_unique<NcclCommunicator>(std::move(host), device);
}

int NcclVersion() {
  int version = 0;
  return ncclGetVersion(&version) == ncclSuccess ? version : 0;
}

}  // namespace lacuna
