// A second stream beside a device's compute stream, for kernels that may run at the same time:
// those that are small, and the ends of large ones, leave multiprocessors idle.
//
//   SideStream side(stream);       // what goes on side.stream() follows what is on `stream` by now
//   ...
//   side.Join();                   // what goes on `stream` from now on follows what is on both
//
// Tensors are allocated and freed in the order of the compute stream: those that the side's work
// reads or sets have to be made before the SideStream and to live until Join. Kernels' workspaces
// belong to the stream that they run on and are given back before Join.
// On the CPU, and while somebody observes kernels (core/kernel.h) and reads their outputs after each,
// stream() is the compute stream itself.
#pragma once

#include "core/device.h"

namespace lacuna {

class SideStream {
 public:
  explicit SideStream(Stream compute);
  ~SideStream();  // joins
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  Stream stream() const { return side_; }
  void Join();

 private:
  Stream compute_, side_;
};

}  // namespace lacuna
