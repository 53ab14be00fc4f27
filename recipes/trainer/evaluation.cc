#include "recipes/trainer/evaluation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/memory_category.h"
#include "core/profile_range.h"
#include "core/status.h"
#include "core/stream.h"
#include "recipes/trainer/training_step.h"

namespace lacuna {

absl::StatusOr<std::vector<EvaluationResult>> Evaluate(
    LanguageModel& model, const std::vector<std::unique_ptr<ValidationSet>>& sets,
    Communicator& comm, int64_t max_samples) {
  const ProfileRange range("evaluation");
  const MemoryScope scope(MemoryCategory::kActivations);
  std::vector<EvaluationResult> results;
  for (const auto& set : sets) {
    const int64_t samples =
        max_samples > 0 ? std::min(max_samples, set->num_samples()) : set->num_samples();
    std::vector<double> sums(3, 0.0);  // loss, tokens, bytes
    // A rank that has no sample left runs the last one along with the others, which may need it
    // (its experts), and counts nothing.
    for (int64_t first = 0; first < samples; first += comm.size()) {
      const int64_t mine = first + comm.rank(), i = std::min(mine, samples - 1);
      const absl::StatusOr<Batch> batch = set->Load({i});
      LACUNA_RETURN_IF_ERROR(
          AgreeOnStatus(comm, batch.status(), AfterSeconds(comm.timeout_seconds())));
      const Device device = model.device();
      const PackedSequences sequences = batch->sequences.To(device);
      Tape tape(Tape::Mode::kInference, ComputeStream(device));
      ForwardContext ctx{
          .tape = tape, .sequences = sequences, .rows_per_sample = batch->ids.numel()};
      const Tensor losses =
          model.Loss(ctx, batch->ids.To(device), batch->targets.To(device), 1.0).row_loss;
      if (mine >= samples) continue;
      for (const double row : losses.ToDoubles()) sums[0] += row;
      sums[1] += static_cast<double>(batch->num_target_tokens);
      sums[2] += static_cast<double>(set->BytesOf(i));
    }
    SumOverRanks(comm, &sums);
    results.push_back({.name = set->name(),
                       .loss = sums[0] / std::max(sums[1], 1.0),
                       .bits_per_byte = sums[0] / std::numbers::ln2 / std::max(sums[2], 1.0),
                       .tokens = static_cast<int64_t>(sums[1]),
                       .bytes = static_cast<int64_t>(sums[2])});
  }
  return results;
}

}  // namespace lacuna
