// Marks on a stream that know when the device reached them.
#pragma once

#include <vector>

#include "core/device.h"

namespace lacuna::cuda {

class Events {
 public:
  // On the device of `stream`, which every mark is set on.
  Events(int count, Stream stream);
  ~Events();
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  int count() const { return static_cast<int>(events_.size()); }
  void Add(int count);  // behind those that there are

  void Mark(int event);
  // Between two marks that the device has passed (Synchronize).
  double Milliseconds(int begin, int end) const;

 private:
  Stream stream_;
  std::vector<void*> events_;  // cudaEvent_t
};

}  // namespace lacuna::cuda
