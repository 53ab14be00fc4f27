// One optimizer step: micro-batches forward and backward, gradients summed over the ranks,
// clipping, AdamW, router bias.
//
// The loss is the mean over all unmasked tokens of the global batch: the count is summed over
// micro-batches and ranks before backward, so it does not depend on how the batch is cut or packed.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "data/batch.h"
#include "distributed/communicator.h"
#include "distributed/gradient_reducer.h"
#include "distributed/weight_gatherer.h"
#include "nn/metrics.h"
#include "nn/optimizer.h"
#include "recipes/model_builder.h"

namespace lacuna {

struct StepResult {
  double loss = 0;            // nats a token
  double gradient_norm = 0;   // before clipping
  int64_t target_tokens = 0;  // of the global batch
  // Of the global batch, in the order of the loader's sources.
  struct Source {
    std::string name;     // filled by the trainer
    int64_t tokens = 0;   // rows without padding
    int64_t targets = 0;  // rows with a loss
    double loss = 0;      // nats a target
  };
  std::vector<Source> sources;
  // Batch::content_hash of all samples of the global batch: the same on any number of ranks.
  uint64_t data_hash = 0;
  // When the step's first work went to the device; before it, batches were loaded and counted.
  std::chrono::steady_clock::time_point first_work;
  // From the end of the step before to first_work: what the host costs while the device has nothing
  // to do. Filled by the trainer, 0 for a run's first step and after an evaluation or a checkpoint.
  double idle_seconds = 0;
  // Empty where the weights were updated; else why they were not (the first tensor that is not
  // finite, or an empty batch).
  std::string skipped;
};

// Is told where a step's work is queued, for measurements.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void MicroBatchBegins() = 0;
  // Behind the last one.
  virtual void MicroBatchesEnd() = 0;
};

class TrainingStep {
 public:
  // All arguments must outlive this; `sequence_length` is the rows of a sample. `context`: the
  // ranks that share each sample (Mesh::context_group); null where samples are whole. While this
  // lives, every pass of the model finds its weights, where ranks keep shares of them.
  TrainingStep(BuiltModel& model, AdamW& optimizer, GradientReducer& reducer, Communicator& comm,
               double clip_norm, int64_t sequence_length, Communicator* context = nullptr);
  // ForwardContext::deterministic; true at first.
  void set_deterministic(bool deterministic) { deterministic_ = deterministic; }

  // None at first; must outlive the steps.
  void set_observer(StepObserver* observer) { observer_ = observer; }

  // `micro_batches`: this rank's (of a context group's rank, its rows of them: KeepContextRows);
  // every rank has as many. Metrics are collected, summed over ranks,
  // where `metrics` is not null.
  StepResult Run(const std::vector<Batch>& micro_batches, double learning_rate, Metrics* metrics);

 private:
  // This rank's, where the parameters are.
  struct Losses {
    std::vector<Tensor> rows;  // [N] of each micro-batch
    Tensor mean;               // [1], its part of the global batch's mean
  };
  // Forward and backward of all micro-batches.
  Losses Accumulate(const std::vector<Batch>& micro_batches, double scale, Metrics* metrics);
  // Waits for the gradients' sums over the ranks.
  void Reduce(Tensor& mean_loss);
  // The gradients' norm, and the update where there is something to learn from.
  GradientNorm Update(const StepResult& result, const Tensor& mean_loss, double learning_rate);
  std::vector<double> SumBySource(const std::vector<Batch>& micro_batches,
                                  const std::vector<Tensor>& row_losses) const;
  void CollectMetrics(Metrics& metrics);
  // Counts of the global batch, summed over the ranks.
  StepResult Count(const std::vector<Batch>& micro_batches);
  void UpdateRouterBias(bool skipped);
  void SumRouterCounts();

  BuiltModel& model_;
  AdamW& optimizer_;
  GradientReducer& reducer_;
  Communicator& comm_;
  WeightGatherer weights_;
  double clip_norm_;
  int64_t sequence_length_;
  Communicator* context_;
  int64_t rows_of_sample_;  // on this rank
  bool deterministic_ = true;
  StepObserver* observer_ = nullptr;
};

// Sums over the ranks, in place.
void SumOverRanks(Communicator& comm, std::vector<double>* values);

}  // namespace lacuna
