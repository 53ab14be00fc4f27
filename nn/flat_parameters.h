// Storage of a model's parameters: flat buffers (nn/flat_layout.h), of which every parameter is a
// view.
//
//   value   compute type (f32, f64 or bf16)   what kernels read
//   grad    accumulation type                 what backward adds to; none in a model that is only
//                                             run forward
//   master  accumulation type                 what the optimizer updates; the same buffer as
//           `value` unless that is bf16
//
// Of buckets that are sharded, `grad` and `master` hold this rank's share alone. Backward then adds
// to gradients of a whole bucket that somebody attaches for the time (distributed/gradient_reducer.h).
// So it is with `value` where values are sharded, too (distributed/weight_gatherer.h).
// Padding stays zero.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/parameter.h"
#include "core/tensor.h"
#include "nn/flat_layout.h"
#include "nn/module.h"

namespace lacuna {

class FlatParameters {
 public:
  using Entry = FlatLayout::Entry;

  // Allocates the buffers, points every parameter of `root` into them and initialises the values
  // from (seed, name). Without `gradients` there are no gradient buffers, and no backward pass.
  FlatParameters(Module& root, DType dtype, uint64_t seed, bool gradients = true,
                 Device device = kCpu, const Sharding& sharding = {});

  DType dtype() const { return value_.dtype(); }
  Device device() const { return value_.device(); }
  int64_t size() const { return value_.dim(0); }  // elements of `value`, padding included
  const FlatLayout& layout() const { return layout_; }
  const std::vector<Entry>& entries() const { return layout_.entries; }  // in order of use
  bool is_sharded() const { return layout_.size != layout_.local_size; }

  Tensor& value() { return value_; }
  Tensor& grad() { return grad_; }
  Tensor& master() { return master_; }
  // The master copy of one parameter, in its shape. Not of a sharded model.
  Tensor MasterOf(const Entry& entry) const;

  // One piece, flat; master and gradient of one that is counted or updated here.
  Tensor ValueOf(const FlatPiece& piece) const { return value_.View(piece.value, {piece.count}); }
  Tensor MasterOf(const FlatPiece& piece) const {
    return master_.View(master_is_value() ? piece.value : piece.local, {piece.count});
  }
  Tensor GradOf(const FlatPiece& piece) const { return grad_.View(piece.local, {piece.count}); }

  // Parameters whose gradient can be set are marked instead, and hold anything until it is.
  // Gradients that are not attached are left alone.
  void ZeroGrad();
  // Zeroes gradients that are still unset, of parameters that no rule reached. After the backward
  // passes of a step, before anything reads gradients.
  void ZeroUnsetGrad();
  void ZeroUnsetGrad(const FlatBucket& bucket);
  // Gives the parameters of a sharded bucket gradients in `buffer` ([bucket.size()]), as ZeroGrad
  // leaves them; takes them away again.
  void AttachGrad(const FlatBucket& bucket, Tensor buffer);
  void DetachGrad(const FlatBucket& bucket);

  // The values of a bucket whose values are sharded are those in `buffer` ([bucket.size()]); are
  // not here.
  void AttachValues(const FlatBucket& bucket, Tensor buffer);
  void DetachValues(const FlatBucket& bucket);

  // Rounds the master copy into the compute copy (nothing to do where they are one buffer); in
  // sharded buckets, of this rank's share.
  void SyncValueFromMaster();

 private:
  bool master_is_value() const { return master_.dtype() == value_.dtype(); }
  void ZeroGrad(const FlatBucket& bucket, Tensor buffer);
  void PointIntoBuffers(const FlatBucket& bucket);
  void Initialise(const FlatBucket& bucket, uint64_t seed);
  void InitialiseShare(const FlatBucket& bucket, uint64_t seed);

  FlatLayout layout_;
  Tensor value_;
  Tensor grad_;
  Tensor master_;
};

}  // namespace lacuna
