// GradientReducer: sums the gradients of a model over the ranks that have the same parameters while
// backward is still running, and brings the updated weights of sharded buckets back to them.
//
// Backward finishes the last-used parameters first, so buckets (nn/flat_layout.h) are launched from
// the one whose first parameter is used last. That order is the same on all ranks whatever order
// gradients become ready in, and a bucket is part of it even where this rank had no gradient for its
// parameters.
//
//   GradientReducer reducer(parameters, *comm);
//   for each micro-batch:
//     tape.Backward(seeds, /*fire_hooks=*/last one || reducer.every_micro_batch());
//     if (not the last one && reducer.every_micro_batch()) reducer.FinishBackward();
//   reducer.Finish();                  // parameters.grad() is now the sum over ranks
//   optimizer.Step(...);
//   reducer.GatherValues(); ...; reducer.WaitForValues();
//
// A bucket that is not sharded is all-reduced once, in the last micro-batch, in place: the same bits
// on every rank. A sharded one is reduce-scattered in every micro-batch: its gradients have memory
// from the first rule that adds to one of them until the sum has arrived, when this rank's share is
// added to parameters.grad(). Where several ranks have the same share (FlatBucket::copies), they sum it
// once a step, at its end. A bucket is not launched before the one launched last has arrived, so
// one bucket travels while others fill; none is left from the micro-batch before when the first one
// begins to fill.
//
// Sums are not divided by anything: a loss that is a mean must be scaled by the weight of all ranks
// before backward. With one rank nothing is hooked and nothing is copied.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "distributed/communicator.h"
#include "nn/flat_parameters.h"

namespace lacuna {

class GradientReducer {
 public:
  // The groups of the parameters' layout: `shares` for whole parameters, `replicas` for parts (may be
  // null where there are none), `copies` for those of a share (null where each is one rank's). Takes
  // the parameters' gradient hooks until it is destroyed; all arguments must outlive it.
  GradientReducer(FlatParameters& parameters, Communicator& shares,
                  Communicator* replicas = nullptr, Communicator* copies = nullptr);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // Over which whole parameters are cut.
  Communicator& shares() const { return shares_; }
  // Hooks must fire in every micro-batch, not in the last one alone.
  bool every_micro_batch() const { return every_micro_batch_; }
  // Between two micro-batches: launches what the backward pass did not (parameters that took no part).
  void FinishBackward();
  // The same for the last one, and waits for all sums of the step. Throws CommunicationError.
  void Finish();

  // All-gathers the weights of sharded buckets, of which each rank has updated its share; of those
  // whose values are sharded, too, nothing is done (distributed/weight_gatherer.h).
  void GatherValues();
  void WaitForValues();

  // Buckets that several ranks share.
  int64_t num_buckets() const { return static_cast<int64_t>(buckets_.size()); }
  // Those launched by hooks since the last FinishBackward or Finish.
  int64_t num_launched() const { return static_cast<int64_t>(num_launched_); }

 private:
  struct Bucket {
    const FlatBucket* flat = nullptr;
    Communicator* comm = nullptr;
    size_t num_ready = 0;
    Tensor buffer;         // of a sharded one while it fills or travels
    bool has_sum = false;  // its share holds an earlier micro-batch of this step
    Request request;
    bool travels = false;
  };
  void OnWanted(Parameter& parameter);
  void OnReady(Parameter& parameter);
  void Attach(Bucket& bucket);
  void LaunchNext();
  void Receive(Bucket& bucket);
  void ReceiveSharded();
  void SumCopies();

  FlatParameters& parameters_;
  Communicator& shares_;
  Communicator* copies_;
  std::vector<Bucket> buckets_;  // in order of launch
  absl::flat_hash_map<const Parameter*, size_t> bucket_of_;
  size_t num_launched_ = 0;
  bool every_micro_batch_ = false;
  std::vector<Request> gathers_;
};

}  // namespace lacuna
