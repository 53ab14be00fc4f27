// GradientReducer: sums the gradients of a model over the ranks of a communicator while backward is
// still running.
//
// The flat gradient buffer (nn/flat_parameters.h) is cut into buckets of whole parameters in order
// of use. Backward finishes the last-used parameters first, so buckets are launched from the last
// to the first. That order is the same on all ranks whatever order gradients become ready in, and a
// bucket is part of it even where this rank had no gradient for its parameters.
//
//   GradientReducer reducer(parameters, *comm);
//   for each micro-batch: tape.Backward(seeds, /*fire_hooks=*/last one);
//   reducer.Finish();                  // parameters.grad() is now the sum over ranks, the same
//     bits on every rank
//
// The sum is not divided by anything: a loss that is a mean must be scaled by the weight of all
// ranks before backward.
// With one rank nothing is hooked and nothing is copied.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "distributed/communicator.h"
#include "nn/flat_parameters.h"

namespace lacuna {

class GradientReducer {
 public:
  // bucket_bytes: a bucket is closed when it has at least as many bytes of gradients. Takes the
  // parameters' on_grad_ready hooks until it is destroyed; `parameters` and `comm` must outlive it.
  GradientReducer(FlatParameters& parameters, Communicator& comm,
                  int64_t bucket_bytes = int64_t{8} << 20);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // Launches what backward did not (parameters that took no part) and waits for all sums. Throws
  // CommunicationError.
  void Finish();

  int64_t num_buckets() const { return static_cast<int64_t>(buckets_.size()); }
  // Buckets launched by hooks, before Finish, since the last Finish.
  int64_t num_launched() const { return static_cast<int64_t>(requests_.size()); }

 private:
  struct Bucket {
    int64_t begin = 0;  // elements of the flat buffer
    int64_t end = 0;
    int64_t num_parameters = 0;
    int64_t num_ready = 0;
  };
  void OnReady(Parameter& parameter);
  void LaunchNext();

  FlatParameters& parameters_;
  Communicator& comm_;
  std::vector<Bucket> buckets_;  // in order of launch
  absl::flat_hash_map<const Parameter*, size_t> bucket_of_;
  std::vector<Request> requests_;
};

}  // namespace lacuna
