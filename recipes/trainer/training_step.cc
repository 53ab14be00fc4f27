#include "recipes/trainer/training_step.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/memory_category.h"
#include "core/ops/elementwise.h"
#include "core/profile_range.h"
#include "core/stream.h"

namespace lacuna {

void SumOverRanks(Communicator& comm, std::vector<double>* values) {
  if (comm.size() == 1 || values->empty()) return;
  Tensor tensor = Tensor::FromVector(*values, {static_cast<int64_t>(values->size())});
  comm.AllReduceSum(tensor).Wait();
  *values = tensor.ToDoubles();
}

TrainingStep::TrainingStep(BuiltModel& model, AdamW& optimizer, GradientReducer& reducer,
                           Communicator& comm, double clip_norm, int64_t sequence_length,
                           Communicator* context)
    : model_(model),
      optimizer_(optimizer),
      reducer_(reducer),
      comm_(comm),
      weights_(*model.parameters, *model.model, reducer.shares()),
      clip_norm_(clip_norm),
      sequence_length_(sequence_length),
      context_(context),
      rows_of_sample_(sequence_length / (context == nullptr ? 1 : context->size())) {
  if (comm.size() == 1) return;
  for (MoeLayer* layer : model_.moe_layers) {
    layer->set_count_reducer([&comm](Tensor& counts) { comm.AllReduceSum(counts).Wait(); });
  }
}

StepResult TrainingStep::Count(const std::vector<Batch>& micro_batches) {
  // A hash is summed in pieces of 16 bits, which doubles hold exactly.
  constexpr size_t kPieces = 4;
  const size_t num_sources =
      micro_batches.empty() ? 0 : micro_batches.front().tokens_per_source.size();
  std::vector<double> sums(kPieces + 2 * num_sources, 0.0);
  for (const Batch& batch : micro_batches) {
    for (size_t i = 0; i < kPieces; ++i)
      sums[i] += static_cast<double>((batch.content_hash >> (16 * i)) & 0xFFFF);
    for (size_t s = 0; s < num_sources; ++s)
      sums[kPieces + s] += static_cast<double>(batch.tokens_per_source[s]);
    const int32_t* targets = batch.targets.data<int32_t>();
    for (int64_t row = 0; row < batch.targets.numel(); ++row) {
      const auto sample = static_cast<size_t>(row / rows_of_sample_);
      sums[kPieces + num_sources + static_cast<size_t>(batch.source_of_sample[sample])] +=
          targets[row] >= 0;
    }
  }
  SumOverRanks(comm_, &sums);
  StepResult result;
  for (size_t i = 0; i < kPieces; ++i)
    result.data_hash |= (static_cast<uint64_t>(sums[i]) & 0xFFFF) << (16 * i);
  for (size_t s = 0; s < num_sources; ++s) {
    const auto tokens = static_cast<int64_t>(sums[kPieces + s]),
               targets = static_cast<int64_t>(sums[kPieces + num_sources + s]);
    result.sources.push_back({.name = "", .tokens = tokens, .targets = targets});
    result.target_tokens += targets;
  }
  return result;
}

TrainingStep::Losses TrainingStep::Accumulate(const std::vector<Batch>& micro_batches, double scale,
                                              Metrics* metrics) {
  const Device device = model_.parameters->device();
  const Stream stream = ComputeStream(device);
  const MemoryScope scope(MemoryCategory::kActivations);
  const double share = 1.0 / (static_cast<double>(micro_batches.size()) * comm_.size());
  Losses losses;
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    if (observer_ != nullptr) observer_->MicroBatchBegins();
    const Batch& batch = micro_batches[i];
    const PackedSequences sequences = batch.sequences.To(device);
    std::optional<ContextShare> context;
    if (context_ != nullptr) context.emplace(sequences, sequence_length_, *context_);
    Tape tape(Tape::Mode::kRecord, stream);
    ForwardContext ctx{.tape = tape,
                       .sequences = sequences,
                       .metrics = metrics,
                       .rows_per_sample = rows_of_sample_,
                       .micro_batch_share = share,
                       .micro_batch = static_cast<int64_t>(i),
                       .deterministic = deterministic_,
                       .context = context ? &*context : nullptr};
    const LinearCrossEntropyResult result = [&] {
      const ProfileRange range("forward");
      return model_.model->Loss(ctx, batch.ids.To(device), batch.targets.To(device), scale);
    }();
    losses.rows.push_back(result.row_loss);
    if (!losses.mean.defined()) {
      losses.mean = result.loss.value().Clone();
    } else {
      const TensorRef sum = losses.mean.MutableRef();
      ops::Add({.a = sum, .b = result.loss.value().Ref(), .y = sum}, stream);
    }
    const ProfileRange range("backward");
    const bool last = i + 1 == micro_batches.size();
    tape.BackwardFrom(result.loss, /*fire_hooks=*/last || reducer_.every_micro_batch());
    if (!last && reducer_.every_micro_batch()) reducer_.FinishBackward();
  }
  if (observer_ != nullptr) observer_->MicroBatchesEnd();
  return losses;
}

std::vector<double> TrainingStep::SumBySource(const std::vector<Batch>& micro_batches,
                                              const std::vector<Tensor>& row_losses) const {
  std::vector<double> sums(micro_batches.front().tokens_per_source.size(), 0.0);
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    const std::vector<double> rows = row_losses[i].ToDoubles();
    for (size_t row = 0; row < rows.size(); ++row) {
      const size_t sample = row / static_cast<size_t>(rows_of_sample_);
      sums[static_cast<size_t>(micro_batches[i].source_of_sample[sample])] += rows[row];
    }
  }
  return sums;
}

void TrainingStep::Reduce(Tensor& mean_loss) {
  const ProfileRange range("reduce");
  reducer_.Finish();
  // Every rank has the same bits of the loss and of the gradients, so every rank takes the same
  // decision.
  if (comm_.size() > 1) comm_.AllReduceSum(mean_loss).Wait();
}

GradientNorm TrainingStep::Update(const StepResult& result, const Tensor& mean_loss,
                                  double learning_rate) {
  const ProfileRange range("optimizer");
  SumOverRanksFn sum_over_ranks;
  if (comm_.size() > 1) sum_over_ranks = [this](Tensor& t) { comm_.AllReduceSum(t).Wait(); };
  GradientNorm norm = MeasureGradients(*model_.parameters, mean_loss, clip_norm_, sum_over_ranks);
  if (result.target_tokens > 0) {
    optimizer_.Step(learning_rate, norm.clip_factor);
    reducer_.GatherValues();
  }
  return norm;
}

StepResult TrainingStep::Run(const std::vector<Batch>& micro_batches, double learning_rate,
                             Metrics* metrics) {
  StepResult result = Count(micro_batches);
  reducer_.WaitForValues();
  const double targets = std::max(1.0, static_cast<double>(result.target_tokens));
  result.first_work = std::chrono::steady_clock::now();
  model_.parameters->ZeroGrad();
  Losses losses = Accumulate(micro_batches, 1.0 / targets, metrics);
  model_.parameters->ZeroUnsetGrad();
  Reduce(losses.mean);
  const int64_t updates = optimizer_.num_updates();
  const GradientNorm norm = Update(result, losses.mean, learning_rate);

  // All work of the step is queued; from here on the host waits for its numbers.
  std::vector<double> loss = SumBySource(micro_batches, losses.rows);
  SumOverRanks(comm_, &loss);
  for (size_t s = 0; s < loss.size(); ++s) {
    result.loss += loss[s] / targets;
    result.sources[s].loss =
        loss[s] / std::max(1.0, static_cast<double>(result.sources[s].targets));
  }
  const std::vector<double> squares = norm.squares.ToDoubles();
  result.gradient_norm = NormOf(squares);
  if (metrics != nullptr) CollectMetrics(*metrics);
  if (result.target_tokens == 0) {
    result.skipped = "no token of the batch has a loss";
  } else if (std::isnan(norm.clip_factor.ToDoubles()[0])) {
    result.skipped =
        FirstNonFinite(*model_.parameters, squares).value_or("loss") + " is not finite";
    optimizer_.set_num_updates(updates);
  }
  UpdateRouterBias(!result.skipped.empty());
  reducer_.WaitForValues();
  return result;
}

void TrainingStep::CollectMetrics(Metrics& metrics) {
  metrics.Collect();
  if (comm_.size() == 1) return;
  std::vector<double> all = metrics.Flatten();
  SumOverRanks(comm_, &all);
  metrics.Unflatten(all);
}

void TrainingStep::UpdateRouterBias(bool skipped) {
  if (comm_.size() > 1) SumRouterCounts();
  for (MoeLayer* layer : model_.moe_layers) {
    if (!skipped) layer->UpdateBias();
    layer->ResetCounts();
  }
}

void TrainingStep::SumRouterCounts() {
  std::vector<Request> sums;
  for (MoeLayer* layer : model_.moe_layers)
    sums.push_back(comm_.AllReduceSum(layer->step_counts()));
  for (Request& sum : sums) sum.Wait();
}

}  // namespace lacuna
