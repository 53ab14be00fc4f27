#include "distributed/gradient_reducer.h"

namespace lacuna {

GradientReducer::GradientReducer(FlatParameters& parameters, Communicator& comm,
                                 int64_t bucket_bytes)
    : parameters_(parameters), comm_(comm) {
  if (comm.size() == 1) return;
  const auto& entries = parameters.entries();
  const int64_t element = SizeOf(parameters.grad().dtype());
  // From the last parameter back; a bucket runs from its first parameter to where the one launched
  // before it begins.
  int64_t end = parameters.size();
  for (size_t i = entries.size(); i-- > 0;) {
    if (buckets_.empty() ||
        (buckets_.back().end - buckets_.back().begin) * element >= bucket_bytes) {
      buckets_.push_back({.begin = end, .end = end});
    }
    Bucket& bucket = buckets_.back();
    bucket.begin = end = entries[i].offset;
    ++bucket.num_parameters;
    bucket_of_[entries[i].parameter] = buckets_.size() - 1;
    LACUNA_CHECK(!entries[i].parameter->on_grad_ready, "{}: its gradient hook is taken",
                 entries[i].parameter->name);
    entries[i].parameter->on_grad_ready = [this](Parameter& parameter) { OnReady(parameter); };
  }
}

GradientReducer::~GradientReducer() {
  for (const auto& [parameter, bucket] : bucket_of_)
    const_cast<Parameter*>(parameter)->on_grad_ready = nullptr;
}

void GradientReducer::OnReady(Parameter& parameter) {
  Bucket& bucket = buckets_[bucket_of_.at(&parameter)];
  LACUNA_CHECK(++bucket.num_ready <= bucket.num_parameters,
               "{}: a second backward pass fired hooks before Finish", parameter.name);
  while (requests_.size() < buckets_.size() &&
         buckets_[requests_.size()].num_ready == buckets_[requests_.size()].num_parameters)
    LaunchNext();
  comm_.Poll();
}

void GradientReducer::LaunchNext() {
  const Bucket& bucket = buckets_[requests_.size()];
  requests_.push_back(
      comm_.AllReduceSum(parameters_.grad().View(bucket.begin, {bucket.end - bucket.begin})));
}

void GradientReducer::Finish() {
  while (requests_.size() < buckets_.size()) LaunchNext();
  for (Request& request : requests_) request.Wait();
  requests_.clear();
  for (Bucket& bucket : buckets_) bucket.num_ready = 0;
}

}  // namespace lacuna
