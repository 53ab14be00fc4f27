// WeightGatherer: brings the weights of which a rank keeps its share alone (FlatBucket::
// values_sharded) for the stages of a pass that read them, and gives their memory back.
//
//   WeightGatherer weights(parameters, model, *comm);
//   ... passes of the model, forward, backward or both; updates of the shares between them ...
//
// When a stage begins, buckets that neither it nor the next one reads are freed, those of both that
// are not here are all-gathered, and those of the stage are waited for: the next one's travel while
// it works. What a pass needs is fixed by the model, so that all ranks launch the same collectives
// in the same order, among GradientReducer's (rules are recorded whatever the data). Beside the shares a rank so holds the weights of two
// neighbouring stages, and what else is in their buckets (MemoryCategory::kCommunication).
//
// All ranks run as many passes. Between passes no value of such a bucket is here. Where no bucket is
// sharded so, the model is left alone.
#pragma once

#include <cstdint>
#include <vector>

#include "distributed/communicator.h"
#include "nn/flat_parameters.h"
#include "nn/language_model.h"

namespace lacuna {

class WeightGatherer : private WeightStages {
 public:
  // `shares`: the ranks over which whole parameters are cut. The model tells it of its passes until
  // it is destroyed; all arguments must outlive it.
  WeightGatherer(FlatParameters& parameters, LanguageModel& model, Communicator& shares);
  ~WeightGatherer() override;
  WeightGatherer(const WeightGatherer&) = delete;
  WeightGatherer& operator=(const WeightGatherer&) = delete;

 private:
  struct Bucket {
    const FlatBucket* flat = nullptr;
    Tensor buffer;  // while it travels or is here
    Request request;
    bool travels = false;
  };
  // Throw CommunicationError.
  void Begin(int64_t stage, int64_t next) override;
  void End() override;
  void Launch(Bucket& bucket);
  void Receive(Bucket& bucket);
  void Release(Bucket& bucket);

  FlatParameters& parameters_;
  LanguageModel& model_;
  Communicator& shares_;
  std::vector<Bucket> buckets_;
  std::vector<std::vector<size_t>> of_stage_;  // buckets with a parameter of the stage
};

}  // namespace lacuna
