#include "distributed/gradient_reducer.h"

#include <algorithm>
#include <utility>

#include "core/memory_category.h"
#include "core/ops/elementwise.h"
#include "core/stream.h"

namespace lacuna {

GradientReducer::GradientReducer(FlatParameters& parameters, Communicator& shares,
                                 Communicator* replicas, Communicator* copies)
    : parameters_(parameters), shares_(shares), copies_(copies) {
  for (const FlatBucket& flat : parameters.layout().buckets) {
    Communicator* comm = flat.of_parts ? replicas : &shares;
    LACUNA_CHECK(comm != nullptr || flat.group.size == 1,
                 "gradient reducer: parts of tensors, and no communicator of their replicas");
    LACUNA_CHECK(
        comm == nullptr || (comm->size() == flat.group.size && comm->rank() == flat.group.rank),
        "gradient reducer: parameters laid out for rank {} of {}, the communicator is {} of {}",
        flat.group.rank, flat.group.size, comm->rank(), comm->size());
    LACUNA_CHECK(flat.copies.size == (flat.of_parts || copies == nullptr ? 1 : copies->size()),
                 "gradient reducer: shares laid out for {} copies, and a communicator of others",
                 flat.copies.size);
    if (flat.group.size == 1) continue;
    Bucket& bucket = buckets_.emplace_back();
    bucket.flat = &flat;
    bucket.comm = comm;
    every_micro_batch_ = every_micro_batch_ || flat.sharded;
  }
  std::sort(buckets_.begin(), buckets_.end(), [](const Bucket& a, const Bucket& b) {
    return a.flat->entries.front() > b.flat->entries.front();
  });
  for (size_t b = 0; b < buckets_.size(); ++b) {
    for (const size_t i : buckets_[b].flat->entries) {
      Parameter& parameter = *parameters.entries()[i].parameter;
      LACUNA_CHECK(!parameter.on_grad_ready, "{}: its gradient hook is taken", parameter.name);
      bucket_of_[&parameter] = b;
      parameter.on_grad_ready = [this](Parameter& p) { OnReady(p); };
      if (buckets_[b].flat->sharded)
        parameter.on_grad_wanted = [this](Parameter& p) { OnWanted(p); };
    }
  }
}

GradientReducer::~GradientReducer() {
  for (const auto& [parameter, bucket] : bucket_of_) {
    const_cast<Parameter*>(parameter)->on_grad_ready = nullptr;
    const_cast<Parameter*>(parameter)->on_grad_wanted = nullptr;
  }
}

void GradientReducer::Attach(Bucket& bucket) {
  const MemoryScope scope(MemoryCategory::kCommunication);
  bucket.buffer =
      Tensor::Empty({bucket.flat->size()}, parameters_.grad().dtype(), parameters_.grad().device());
  parameters_.AttachGrad(*bucket.flat, bucket.buffer);
}

void GradientReducer::OnWanted(Parameter& parameter) {
  const size_t index = bucket_of_.at(&parameter);
  LACUNA_CHECK(index >= num_launched_, "{}: a gradient after its bucket was launched",
               parameter.name);
  Bucket& bucket = buckets_[index];
  if (num_launched_ == 0) ReceiveSharded();  // of the micro-batch before
  if (!bucket.buffer.defined()) Attach(bucket);
}

void GradientReducer::OnReady(Parameter& parameter) {
  Bucket& bucket = buckets_[bucket_of_.at(&parameter)];
  LACUNA_CHECK(++bucket.num_ready <= bucket.flat->entries.size(),
               "{}: a second backward pass fired hooks before FinishBackward", parameter.name);
  while (num_launched_ < buckets_.size() &&
         buckets_[num_launched_].num_ready == buckets_[num_launched_].flat->entries.size())
    LaunchNext();
  bucket.comm->Poll();
}

void GradientReducer::LaunchNext() {
  Bucket& bucket = buckets_[num_launched_++];
  const FlatBucket& flat = *bucket.flat;
  if (!flat.sharded) {
    parameters_.ZeroUnsetGrad(flat);
    bucket.request = bucket.comm->AllReduceSum(parameters_.grad().View(flat.local, {flat.size()}));
    bucket.travels = true;
    return;
  }
  ReceiveSharded();
  if (!bucket.buffer.defined()) Attach(bucket);
  parameters_.ZeroUnsetGrad(flat);
  parameters_.DetachGrad(flat);
  bucket.request = bucket.comm->ReduceScatterSum(
      bucket.buffer, bucket.buffer.View(flat.group.rank * flat.share(), {flat.share()}));
  bucket.travels = true;
}

void GradientReducer::ReceiveSharded() {
  for (Bucket& bucket : buckets_) {
    if (bucket.travels && bucket.flat->sharded) Receive(bucket);
  }
}

void GradientReducer::Receive(Bucket& bucket) {
  bucket.request.Wait();
  bucket.request = Request();
  bucket.travels = false;
  const FlatBucket& flat = *bucket.flat;
  if (!flat.sharded) return;
  const Tensor share = bucket.buffer.View(flat.group.rank * flat.share(), {flat.share()});
  Tensor sum = parameters_.grad().View(flat.local, {flat.share()});
  if (bucket.has_sum) {
    const TensorRef y = sum.MutableRef();
    ops::Add({.a = y, .b = share.Ref(), .y = y}, ComputeStream(sum.device()));
  } else {
    sum.CopyFrom(share);  // not added to zero, which would lose the sign of a zero
  }
  bucket.has_sum = true;
  std::exchange(bucket.buffer, Tensor());
}

void GradientReducer::FinishBackward() {
  while (num_launched_ < buckets_.size()) LaunchNext();
  num_launched_ = 0;
  for (Bucket& bucket : buckets_) bucket.num_ready = 0;
}

void GradientReducer::Finish() {
  FinishBackward();
  for (Bucket& bucket : buckets_) {
    if (bucket.travels) Receive(bucket);
    bucket.has_sum = false;
  }
  SumCopies();
}

void GradientReducer::SumCopies() {
  std::vector<Request> sums;
  for (const Bucket& bucket : buckets_) {
    const FlatBucket& flat = *bucket.flat;
    if (flat.copies.size > 1)
      sums.push_back(copies_->AllReduceSum(parameters_.grad().View(flat.local, {flat.updates()})));
  }
  for (Request& sum : sums) sum.Wait();
}

void GradientReducer::GatherValues() {
  WaitForValues();
  // In order of use.
  for (size_t b = buckets_.size(); b-- > 0;) {
    const FlatBucket& flat = *buckets_[b].flat;
    if (!flat.sharded || flat.values_sharded) continue;
    gathers_.push_back(buckets_[b].comm->AllGatherInto(
        parameters_.value().View(flat.values + flat.group.rank * flat.share(), {flat.share()}),
        parameters_.value().View(flat.values, {flat.size()})));
  }
}

void GradientReducer::WaitForValues() {
  for (Request& request : gathers_) request.Wait();
  gathers_.clear();
}

}  // namespace lacuna
