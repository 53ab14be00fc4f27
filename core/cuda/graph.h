// Work that is queued the same way every time, captured once in a CUDA graph and replayed: one
// launch instead of one a kernel.
//
//   work();                                         // once as it is: plans, tables, workspaces
//   const CapturedWork graph = Capture(stream, work);  // records, runs nothing
//   x.CopyFrom(next);                               // into the tensor that the work reads
//   graph.Replay(stream);                           // as often as wanted
//
// What a replay does again is exactly what was recorded: the same kernels on the same addresses,
// with the same numbers of the host (a learning rate, a step, a seed). Hence the rules, each kept
// by an Error that names what broke it:
//   - What the work allocates it frees; its results go to tensors from before. Tensors from before
//     that it reads or writes outlive the graph, and none is freed inside.
//   - No upload from host memory, which each replay would repeat with bytes that are gone; no copy
//     to the host and no wait for the device.
//   - Nothing for the first time: what a product or cuDNN prepares at its first call is prepared.
//   - While work is captured no other thread uses its stream.
// A refused capture has run nothing, has freed what it recorded, and leaves the stream as it was.
// An exception of the work passes through.
//
// A replay marks no tensor as changed (Storage::version): what a tape saved before must not be
// among what it writes. Memory of the work belongs to the graph and is not in MemoryStats, beyond its
// peak while it was recorded.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "core/device.h"

namespace lacuna::cuda {

class CapturedWork {
 public:
  CapturedWork() = default;  // none
  CapturedWork(CapturedWork&& other) noexcept { *this = std::move(other); }
  CapturedWork& operator=(CapturedWork&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(graph_, other.graph_);
    std::swap(num_nodes_, other.num_nodes_);
    std::swap(num_kernels_, other.num_kernels_);
    return *this;
  }
  ~CapturedWork();

  // Queues the work on a stream of the device it was captured on.
  void Replay(Stream stream) const;
  // Kernels, copies, fills, allocations and frees.
  int64_t num_nodes() const { return num_nodes_; }
  int64_t num_kernels() const { return num_kernels_; }

 private:
  friend CapturedWork Capture(Stream, const std::function<void()>&);

  Device device_;
  void* graph_ = nullptr;  // cudaGraphExec_t
  int64_t num_nodes_ = 0, num_kernels_ = 0;
};

// What `work` queues on `stream`, the device's compute stream.
CapturedWork Capture(Stream stream, const std::function<void()>& work);

// For the rest of the backend. Whether this thread captures work; an Error "CUDA graph: <what>" if
// it does.
bool Capturing();
void RefuseInCapture(const char* what);
// Memory handed out on `device`, and taken back in the order of `stream`. True: there is nothing left
// to free.
void NoteAllocated(void* data, int64_t bytes, Device device);
bool FreedByCapture(void* data, Stream stream) noexcept;

}  // namespace lacuna::cuda
