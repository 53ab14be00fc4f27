#include "recipes/rehearsal/rehearsal.h"

#include <algorithm>
#include <memory>

#include "core/allocator.h"
#include "core/random.h"
#include "core/status.h"
#include "core/stream.h"
#include "nn/schedule.h"
#include "recipes/plan/rank_shares.h"
#include "recipes/rehearsal/context_peers.h"
#include "recipes/rehearsal/received_choices.h"
#include "recipes/rehearsal/timeline_recorder.h"
#include "recipes/trainer/batch_share.h"
#include "recipes/trainer/device.h"
#include "recipes/trainer/run_inputs.h"
#include "recipes/trainer/sharding.h"
#include "recipes/trainer/start_checks.h"
#include "recipes/trainer/training_step.h"

namespace lacuna {
namespace {

absl::Status Check(const Recipe& recipe, const RehearsalOptions& options) {
  LACUNA_RETURN_IF_ERROR(CheckMesh(recipe, options.ranks));
  if (options.rank < 0 || options.rank >= options.ranks)
    return ConfigError("--rank {}: must be 0 to {}, of --ranks {}", options.rank, options.ranks - 1,
                       options.ranks);
  if (options.warmup < 0 || options.warmup >= options.steps)
    return ConfigError("--steps {}: must be more than the {} that are not counted", options.steps,
                       options.warmup);
  return absl::OkStatus();
}

// Groups of the ranks as MakeMesh makes them, of which only this rank is there.
struct RehearsedMesh {
  std::unique_ptr<Communicator> world;
  Mesh mesh;
};

RehearsedMesh MakeRehearsedMesh(const RehearsalOptions& options, const ParallelConfig& parallel,
                                Device device, CollectiveRecorder& recorder,
                                AbsentPeers* expert_peers, AbsentPeers* context_peers) {
  const int64_t shard = parallel.shard;
  const auto group = [&](int64_t rank, int64_t size, const char* name, AbsentPeers* with) {
    if (size == 1) return MakeSelfCommunicator();
    auto comm = MakeRehearsalCommunicator({.rank = static_cast<int>(rank),
                                           .size = static_cast<int>(size),
                                           .device = device,
                                           .recorder = &recorder,
                                           .peers = with});
    comm->set_name(name);
    return comm;
  };
  RehearsedMesh rehearsed;
  rehearsed.world = group(options.rank, options.ranks, "world", nullptr);
  rehearsed.mesh.world = rehearsed.world.get();
  const int64_t expert = parallel.expert, context = parallel.context;
  rehearsed.mesh.expert = group(options.rank % expert, expert, "expert", expert_peers);
  rehearsed.mesh.context = group(options.rank % context, context, "context", context_peers);
  rehearsed.mesh.replica = group(options.rank / expert, options.ranks / expert, "replica", nullptr);
  if (shard == 0 || shard == options.ranks) return rehearsed;
  rehearsed.mesh.share = group(options.rank % shard, shard, "share", nullptr);
  rehearsed.mesh.copy = group(options.rank / shard, options.ranks / shard, "copy", nullptr);
  return rehearsed;
}

// Samples of one document each.
Batch RandomBatch(const Recipe& recipe, uint64_t number) {
  const int64_t length = recipe.train.sequence_length, samples = recipe.train.micro_batch;
  std::vector<int32_t> ids, targets, cu = {0};
  Batch batch;
  uint64_t drawn = 0;
  for (int64_t s = 0; s < samples; ++s) {
    for (int64_t t = 0; t < length; ++t) {
      const double u = PhiloxUniform(static_cast<uint64_t>(recipe.run.seed),
                                     (uint64_t{1} << 40) + number, drawn++);
      ids.push_back(static_cast<int32_t>(u * static_cast<double>(recipe.model.vocab_size)));
      if (t > 0) targets.push_back(ids.back());
    }
    targets.push_back(-1);
    cu.push_back(static_cast<int32_t>(ids.size()));
    batch.source_of_sample.push_back(0);
  }
  const int64_t rows = length * samples;
  batch.ids = Tensor::FromVector(ids, {rows});
  batch.targets = Tensor::FromVector(targets, {rows});
  batch.sequences = PackedSequences(std::move(cu));
  batch.num_target_tokens = rows - samples;
  batch.tokens_per_source = {rows};
  return batch;
}

class Rehearsal {
 public:
  Rehearsal(const Recipe& recipe, const RehearsalOptions& options, Device device)
      : recipe_(recipe), options_(options), recorder_(device) {
    result_.device = device;
    const TrainConfig& train = recipe.train;
    result_.recipe_micro_batches = train.global_batch / (groups() * train.micro_batch);
    result_.micro_batches = std::min(options.micro_batches, result_.recipe_micro_batches);
  }

  absl::StatusOr<RehearsalResult> Run() {
    if (!options_.random_data) {
      LACUNA_ASSIGN_OR_RETURN(inputs_, OpenRunInputs(recipe_, /*may_write_cache=*/true));
    }
    LACUNA_RETURN_IF_ERROR(DrawChoices());
    Build();
    result_.memory_at_start = MemoryStatsOf(result_.device).peak;
    ResetMemoryPeak(result_.device);
    for (int64_t s = 0; s < options_.steps; ++s) LACUNA_RETURN_IF_ERROR(Step(s));
    result_.memory = MemoryStatsOf(result_.device);
    Summarise();
    return result_;
  }

 private:
  // Of ranks that share samples.
  int64_t groups() const { return options_.ranks / recipe_.parallel.context; }

  absl::Status DrawChoices() {
    const int64_t expert = recipe_.parallel.expert;
    if (expert == 1) return absl::OkStatus();
    distribution_ = {.num_experts = recipe_.moe.num_experts,
                     .experts_per_token = recipe_.moe.experts_per_token,
                     .ranks = expert,
                     .tokens = recipe_.rank_tokens(),
                     .chunks = recipe_.expert_chunks(),
                     .balance = options_.balance,
                     .seed = static_cast<uint64_t>(recipe_.run.seed)};
    LACUNA_RETURN_IF_ERROR(distribution_.Validate());
    constexpr int64_t kMostDraws = 64;
    const int64_t layers = recipe_.model.num_layers - recipe_.model.num_dense_layers;
    choices_ = std::make_unique<ReceivedChoices>(
        distribution_, std::min(kMostDraws, layers * result_.micro_batches), result_.device,
        AccumulationType(recipe_.train.dtype));
    return absl::OkStatus();
  }

  void Build() {
    mesh_ = MakeRehearsedMesh(options_, recipe_.parallel, result_.device, recorder_, choices_.get(),
                              &context_peers_);
    Communicator& world = *mesh_.world;
    model_ = BuildModel(recipe_.model, recipe_.nsa, recipe_.moe, recipe_.train.recompute,
                        recipe_.train.dtype, static_cast<uint64_t>(recipe_.run.seed),
                        /*gradients=*/true, result_.device, ShardingOf(recipe_, mesh_.mesh),
                        mesh_.mesh.expert_group(), recipe_.expert_chunks());
    optimizer_ = std::make_unique<AdamW>(*model_.parameters, recipe_.optimizer);
    reducer_ = std::make_unique<GradientReducer>(*model_.parameters, mesh_.mesh.share_group(),
                                                 mesh_.mesh.replica.get(), mesh_.mesh.copy_group());
    step_ = std::make_unique<TrainingStep>(
        model_, *optimizer_, *reducer_, world, recipe_.optimizer.clip_norm,
        recipe_.train.sequence_length, mesh_.mesh.context_group());
    step_->set_deterministic(recipe_.train.deterministic);
    step_->set_observer(&recorder_);
    reducer_->GatherValues();
    reducer_->WaitForValues();
    Synchronize(ComputeStream(result_.device));
  }

  absl::StatusOr<std::vector<Batch>> Load(int64_t step) const {
    const int64_t micro_batches = result_.micro_batches, context = recipe_.parallel.context,
                  group = options_.rank / context,
                  global_batch = groups() * micro_batches * recipe_.train.micro_batch;
    if (!options_.random_data)
      return LoadShare(*inputs_.loader, {.first_sample = step * global_batch,
                                         .global_batch = global_batch,
                                         .micro_batch = recipe_.train.micro_batch,
                                         .ranks = static_cast<int>(options_.ranks),
                                         .rank = static_cast<int>(options_.rank),
                                         .context = static_cast<int>(context)});
    std::vector<Batch> batches;
    for (int64_t i = 0; i < micro_batches; ++i) {
      batches.push_back(RandomBatch(
          recipe_, static_cast<uint64_t>((step * micro_batches + i) * groups() + group)));
      KeepContextRows(&batches.back(), recipe_.train.sequence_length, static_cast<int>(context),
                      static_cast<int>(options_.rank % context));
    }
    return batches;
  }

  absl::Status Step(int64_t number) {
    recorder_.BeginStep();
    LACUNA_ASSIGN_OR_RETURN(const std::vector<Batch> batches, Load(number));
    recorder_.Loaded();
    for (const Batch& batch : batches) documents_ += batch.sequences.num_documents();
    const StepResult result =
        step_->Run(batches, LearningRate(recipe_.optimizer, number, recipe_.train.steps), nullptr);
    StepTimeline timeline = recorder_.EndStep();
    if (!result.skipped.empty())
      return MakeError(
          ExitCode::kNumerics,
          fmt::format("rehearsal: step {} was skipped, because {}", number + 1, result.skipped));
    result_.losses.push_back(result.loss);
    if (number < options_.warmup) return absl::OkStatus();
    counted_.push_back({std::move(timeline), {}, recorder_.copies()});
    Counted& counted = counted_.back();
    counted.step = Replay(counted.timeline, result_.recipe_micro_batches, options_.rates);
    return absl::OkStatus();
  }

  void Summarise() {
    std::sort(counted_.begin(), counted_.end(),
              [](const Counted& a, const Counted& b) { return a.step.compute < b.step.compute; });
    const Counted& median = counted_[counted_.size() / 2];
    result_.least = counted_.front().step.compute;
    result_.most = counted_.back().step.compute;
    result_.step = median.step;
    result_.copies = median.copies;
    result_.once = ComputeOf(median.timeline.begin) + ComputeOf(median.timeline.end);
    result_.micro_batch =
        (median.step.compute - result_.once) / static_cast<double>(result_.recipe_micro_batches);
    result_.volumes = VolumesOf(median.timeline, result_.recipe_micro_batches);
    result_.documents_per_sample =
        static_cast<double>(documents_) /
        static_cast<double>(options_.steps * result_.micro_batches * recipe_.train.micro_batch);
    if (choices_ == nullptr) return;
    result_.draws = choices_->bytes();
    RehearsalResult::Arrived& arrived = result_.arrived;
    const auto draws = static_cast<double>(choices_->draws().size());
    for (const ReceivedChoices::Draw& draw : choices_->draws()) {
      arrived.mean_rows += static_cast<double>(draw.num_rows) / draws;
      arrived.mean_choices += static_cast<double>(draw.num_choices) / draws;
      arrived.most_rows = std::max(arrived.most_rows, draw.num_rows);
      arrived.most_choices = std::max(arrived.most_choices, draw.num_choices);
      arrived.fullest_expert = std::max(arrived.fullest_expert, draw.fullest_expert);
    }
    arrived.even_share = distribution_.even_share();
  }

  struct Counted {
    StepTimeline timeline;
    ModelledStep step;
    double copies = 0;
  };

  const Recipe& recipe_;
  const RehearsalOptions& options_;
  TimelineRecorder recorder_;
  RehearsalResult result_;
  RunInputs inputs_;
  ChoiceDistribution distribution_;
  std::unique_ptr<ReceivedChoices> choices_;
  ContextPeers context_peers_;
  RehearsedMesh mesh_;
  BuiltModel model_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<GradientReducer> reducer_;
  std::unique_ptr<TrainingStep> step_;
  std::vector<Counted> counted_;
  int64_t documents_ = 0;
};

}  // namespace

double RehearsalResult::tokens(const Recipe& recipe) const {
  return static_cast<double>(recipe_micro_batches * recipe.train.micro_batch *
                             recipe.train.sequence_length / recipe.parallel.context);
}

absl::StatusOr<RehearsalResult> Rehearse(const Recipe& recipe, const RehearsalOptions& options) {
  LACUNA_RETURN_IF_ERROR(Check(recipe, options));
  const std::unique_ptr<Communicator> alone = MakeSelfCommunicator();
  LACUNA_ASSIGN_OR_RETURN(const Device device, ChooseDevice(recipe, *alone));
  // Whether it fits is what a rehearsal finds out: the plan is not asked.
  SetMemoryLimit(device, static_cast<int64_t>(recipe.train.memory_limit_gib * (1 << 30)));
  LACUNA_RETURN_IF_ERROR(CheckDeterminism(recipe, LongestDeterministicDocument(recipe, device)));
  return Rehearsal(recipe, options, device).Run();
}

}  // namespace lacuna
