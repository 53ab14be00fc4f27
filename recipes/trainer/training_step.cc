#include "recipes/trainer/training_step.h"

#include <algorithm>
#include <cmath>

namespace lacuna {

void SumOverRanks(Communicator& comm, std::vector<double>* values) {
  if (comm.size() == 1 || values->empty()) return;
  Tensor tensor = Tensor::FromVector(*values, {static_cast<int64_t>(values->size())});
  comm.AllReduceSum(tensor).Wait();
  *values = tensor.ToDoubles();
}

TrainingStep::TrainingStep(BuiltModel& model, AdamW& optimizer, GradientReducer& reducer,
                           Communicator& comm, double clip_norm, int64_t sequence_length)
    : model_(model),
      optimizer_(optimizer),
      reducer_(reducer),
      comm_(comm),
      clip_norm_(clip_norm),
      sequence_length_(sequence_length) {
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
      const auto sample = static_cast<size_t>(row / sequence_length_);
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

std::vector<double> TrainingStep::Accumulate(const std::vector<Batch>& micro_batches, double scale,
                                             Metrics* metrics) {
  std::vector<double> loss(micro_batches.front().tokens_per_source.size(), 0.0);
  const double share = 1.0 / (static_cast<double>(micro_batches.size()) * comm_.size());
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    const Batch& batch = micro_batches[i];
    Tape tape;
    ForwardContext ctx{.tape = tape,
                       .sequences = batch.sequences,
                       .metrics = metrics,
                       .rows_per_sample = sequence_length_,
                       .micro_batch_share = share,
                       .micro_batch = static_cast<int64_t>(i)};
    const LinearCrossEntropyResult result =
        model_.model->Loss(ctx, batch.ids, batch.targets, scale);
    const std::vector<double> rows = result.row_loss.ToDoubles();
    for (size_t row = 0; row < rows.size(); ++row) {
      const size_t sample = row / static_cast<size_t>(sequence_length_);
      loss[static_cast<size_t>(batch.source_of_sample[sample])] += rows[row];
    }
    tape.Backward({{result.loss, Tensor::FromDoubles({1.0}, {1}, result.loss.dtype())}},
                  /*fire_hooks=*/i + 1 == micro_batches.size());
  }
  return loss;
}

StepResult TrainingStep::Run(const std::vector<Batch>& micro_batches, double learning_rate,
                             Metrics* metrics) {
  StepResult result = Count(micro_batches);
  const double targets = std::max(1.0, static_cast<double>(result.target_tokens));
  model_.parameters->ZeroGrad();
  std::vector<double> loss = Accumulate(micro_batches, 1.0 / targets, metrics);
  reducer_.Finish();
  SumOverRanks(comm_, &loss);
  for (size_t s = 0; s < loss.size(); ++s) {
    result.loss += loss[s] / targets;
    result.sources[s].loss =
        loss[s] / std::max(1.0, static_cast<double>(result.sources[s].targets));
  }
  // Every rank has the same bits of the gradients, so every rank takes the same decision.
  result.gradient_norm = std::sqrt(GradientSumOfSquares(*model_.parameters, kCpuStream));
  if (metrics != nullptr && comm_.size() > 1) {
    std::vector<double> all = metrics->Flatten();
    SumOverRanks(comm_, &all);
    metrics->Unflatten(all);
  }

  if (result.target_tokens == 0) {
    result.skipped = "no token of the batch has a loss";
  } else if (!std::isfinite(result.gradient_norm) || !std::isfinite(result.loss)) {
    result.skipped = FirstNonFiniteGradient(*model_.parameters).value_or("loss") + " is not finite";
  } else {
    const double clip =
        clip_norm_ > 0 ? std::min(1.0, clip_norm_ / std::max(result.gradient_norm, 1e-30)) : 1.0;
    optimizer_.Step(learning_rate, clip, kCpuStream);
  }
  UpdateRouterBias(!result.skipped.empty());
  return result;
}

void TrainingStep::UpdateRouterBias(bool skipped) {
  std::vector<double> counts;
  for (MoeLayer* layer : model_.moe_layers) {
    const std::vector<double> of_layer = layer->step_counts().ToDoubles();
    counts.insert(counts.end(), of_layer.begin(), of_layer.end());
  }
  SumOverRanks(comm_, &counts);
  size_t at = 0;
  for (MoeLayer* layer : model_.moe_layers) {
    Tensor& mine = layer->step_counts();
    double* out = mine.mutable_data<double>();
    for (int64_t e = 0; e < mine.numel(); ++e) out[e] = counts[at++];
    if (!skipped) layer->UpdateBias();
    layer->ResetCounts();
  }
}

}  // namespace lacuna
