#include "core/cuda/graph.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/cuda/check.h"
#include "core/cuda/runtime.h"
#include "core/error.h"

namespace lacuna::cuda {
namespace {

cudaStream_t Handle(Stream stream) {
  return static_cast<cudaStream_t>(stream.handle);
}

// A failed call also leaves its error to be found by the next launch's check.
void IgnoreError() {
  static_cast<void>(cudaGetLastError());
}

// The memory of a capture under way.
struct Recording {
  Stream stream;
  std::unordered_map<void*, int64_t> inside;  // allocated and not freed yet: bytes
  std::vector<void*> outside;                 // from before, freed
};

thread_local Recording* current = nullptr;

// Addresses that tensors still hold of captures that were refused: no memory stands behind them.
class Orphans {
 public:
  void Add(void* data) {
    std::lock_guard lock(mutex_);
    addresses_.insert(data);
    count_ = static_cast<int64_t>(addresses_.size());
  }
  // Whether it was one; it is none any more.
  bool Take(void* data) {
    if (count_ == 0) return false;
    std::lock_guard lock(mutex_);
    const auto found = addresses_.find(data);
    if (found == addresses_.end()) return false;
    addresses_.erase(found);
    count_ = static_cast<int64_t>(addresses_.size());
    return true;
  }

 private:
  std::mutex mutex_;
  std::atomic<int64_t> count_{0};
  // Should memory get an orphan's address, the one is freed when the other should have been: each
  // address is still freed once, and only when nobody holds it.
  std::unordered_multiset<void*> addresses_;
};

Orphans& TheOrphans() {
  static Orphans* const orphans = new Orphans;  // outlives every static tensor
  return *orphans;
}

class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    if (graph_ != nullptr) static_cast<void>(cudaGraphDestroy(graph_));
  }
  cudaGraph_t get() const { return graph_; }
  cudaGraph_t* address() { return &graph_; }

 private:
  cudaGraph_t graph_ = nullptr;
};

// What the work may have done to its tensors, undone or set right once nothing is recorded.
void Settle(const Recording& recording) {
  for (void* data : recording.outside)
    static_cast<void>(cudaFreeAsync(data, Handle(recording.stream)));
  for (const auto& [data, bytes] : recording.inside) TheOrphans().Add(data);
  IgnoreError();
}

void CheckMemory(const Recording& recording) {
  int64_t left = 0;
  for (const auto& [data, bytes] : recording.inside) left += bytes;
  LACUNA_CHECK(recording.inside.empty(),
               "CUDA graph: {} blocks of memory ({} bytes) that the work allocates outlive it; "
               "results go to tensors from before the capture",
               recording.inside.size(), left);
  LACUNA_CHECK(recording.outside.empty(),
               "CUDA graph: {} blocks of memory from before the capture are freed inside, where "
               "every replay would use them again",
               recording.outside.size());
}

}  // namespace

bool Capturing() {
  return current != nullptr;
}

void RefuseInCapture(const char* what) {
  LACUNA_CHECK(current == nullptr, "CUDA graph: {}", what);
}

void NoteAllocated(void* data, int64_t bytes, Device device) {
  if (current != nullptr && current->stream.device == device) current->inside.emplace(data, bytes);
}

bool FreedByCapture(void* data, Stream stream) noexcept {
  if (current == nullptr || current->stream.device != stream.device) return TheOrphans().Take(data);
  if (current->inside.erase(data) > 0) {
    // Fails where the capture is broken, which its end reports.
    if (cudaFreeAsync(data, Handle(stream)) != cudaSuccess) IgnoreError();
  } else if (!TheOrphans().Take(data)) {
    current->outside.push_back(data);
  }
  return true;
}

CapturedWork::~CapturedWork() {
  // Of a graph under way the driver waits with it.
  if (graph_ != nullptr)
    static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph_)));
}

void CapturedWork::Replay(Stream stream) const {
  LACUNA_CHECK(graph_ != nullptr, "CUDA graph: nothing was captured");
  LACUNA_CHECK(stream.device == device_, "CUDA graph: captured on CUDA device {}, replayed on {}",
               device_.index, stream.device.index);
  RefuseInCapture("a replay inside a capture");
  LACUNA_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph_), Handle(stream)));
}

CapturedWork Capture(Stream stream, const std::function<void()>& work) {
  RefuseInCapture("a capture inside a capture");
  LACUNA_CHECK(stream.device.type == DeviceType::kCuda &&
                   stream.handle == ComputeStream(stream.device).handle,
               "CUDA graph: only work on a CUDA device's compute stream can be captured");
  Recording recording{.stream = stream, .inside = {}, .outside = {}};
  // Other threads may go on with calls that would break a capture in the global mode.
  LACUNA_CUDA_CHECK(cudaStreamBeginCapture(Handle(stream), cudaStreamCaptureModeThreadLocal));
  std::exception_ptr thrown;
  current = &recording;
  try {
    work();
  } catch (...) {
    thrown = std::current_exception();
  }
  current = nullptr;
  Graph graph;
  const cudaError_t ended = cudaStreamEndCapture(Handle(stream), graph.address());
  Settle(recording);
  if (thrown) std::rethrow_exception(thrown);
  LACUNA_CHECK(ended == cudaSuccess,
               "CUDA graph: the work does what cannot be captured (a wait for the device, work "
               "from another stream): {} ({})",
               cudaGetErrorString(ended), cudaGetErrorName(ended));
  CheckMemory(recording);
  CapturedWork captured;
  captured.device_ = stream.device;
  size_t count = 0;
  LACUNA_CUDA_CHECK(cudaGraphGetNodes(graph.get(), nullptr, &count));
  std::vector<cudaGraphNode_t> nodes(count);
  if (count > 0) LACUNA_CUDA_CHECK(cudaGraphGetNodes(graph.get(), nodes.data(), &count));
  captured.num_nodes_ = static_cast<int64_t>(count);
  for (const cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type;
    LACUNA_CUDA_CHECK(cudaGraphNodeGetType(node, &type));
    captured.num_kernels_ += type == cudaGraphNodeTypeKernel ? 1 : 0;
  }
  cudaGraphExec_t executable = nullptr;
  LACUNA_CUDA_CHECK(cudaGraphInstantiateWithFlags(&executable, graph.get(), 0));
  captured.graph_ = executable;
  return captured;
}

}  // namespace lacuna::cuda
