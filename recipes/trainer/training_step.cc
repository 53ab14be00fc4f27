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

double TrainingStep::Accumulate(const std::vector<Batch>& micro_batches, double scale,
                                Metrics* metrics) {
  double loss = 0;
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
    for (const double row : result.row_loss.ToDoubles()) loss += row;
    tape.Backward({{result.loss, Tensor::FromDoubles({1.0}, {1}, result.loss.dtype())}},
                  /*fire_hooks=*/i + 1 == micro_batches.size());
  }
  return loss;
}

StepResult TrainingStep::Run(const std::vector<Batch>& micro_batches, double learning_rate,
                             Metrics* metrics) {
  StepResult result;
  std::vector<double> tokens{0};
  for (const Batch& batch : micro_batches)
    tokens[0] += static_cast<double>(batch.num_target_tokens);
  SumOverRanks(comm_, &tokens);
  result.target_tokens = static_cast<int64_t>(tokens[0]);

  model_.parameters->ZeroGrad();
  std::vector<double> loss{Accumulate(micro_batches, 1.0 / std::max(tokens[0], 1.0), metrics)};
  reducer_.Finish();
  SumOverRanks(comm_, &loss);
  result.loss = loss[0] / std::max(tokens[0], 1.0);
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
