#include "recipes/trainer/self_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "core/random.h"
#include "core/status.h"
#include "distributed/gradient_reducer.h"
#include "distributed/mesh.h"
#include "recipes/model_builder.h"
#include "recipes/trainer/batch_share.h"
#include "recipes/trainer/self_test_ways.h"
#include "recipes/trainer/sharding.h"
#include "recipes/trainer/training_step.h"
#include "recipes/trainer/training_trace.h"

namespace lacuna {
namespace {

constexpr int64_t kVocabulary = 512, kSamplesOfRank = 2, kExpertsPerToken = 2;
constexpr int64_t kComparedSteps = 4;  // in everything; behind them the loss alone

// Sums are rounded in other places. In bf16 and f32 a near tie may send a token to another expert or
// block.
constexpr double kNearTies = 5e-3;
double LimitOf(DType dtype) {
  return dtype == DType::kF64 ? 1e-12 : dtype == DType::kF32 ? 1e-5 : kNearTies;
}
// Of two trainings in f32, once a near tie has sent a token elsewhere.
constexpr double kApart = 1e-2;

BuiltModel Build(const SelfTestWay& way, int ranks, Device device, const Sharding& sharding,
                 Communicator* expert_group) {
  // On a card the paper's widths, so that its kernels run.
  const bool cuda = device.type == DeviceType::kCuda;
  ModelConfig model;
  model.attention = AttentionKind::kNsa;
  model.num_layers = 3;
  model.num_dense_layers = 1;
  model.width = 64;
  model.vocab_size = kVocabulary;
  model.num_heads = cuda ? 16 : 4;
  model.num_groups = 2;
  model.head_dim_qk = cuda ? 192 : 24;
  model.head_dim_v = cuda ? 128 : 16;
  model.rotary_dims = 16;
  model.dense_width = 128;
  model.init_std = 0.1;
  MoeConfig moe{.num_experts = ranks * ((8 + ranks - 1) / ranks),
                .experts_per_token = kExpertsPerToken,
                .expert_width = 32,
                .num_shared = 1};
  moe.aux_loss = AuxLossScope::kSequence;
  moe.aux_loss_coef = 0.01;
  moe.z_loss_coef = 0.001;
  const NsaConfig nsa{.block = 16,
                      .stride = 8,
                      .select_block = cuda ? 64 : 16,
                      .num_selected = 2,
                      .num_init = 1,
                      .num_local = 1,
                      .window = 32};
  RecomputePolicy recompute;
  if (way.recompute) recompute = {.block = true, .keeps = RecomputeKeeps::kAttention};
  return BuildModel(model, nsa, moe, recompute, way.dtype, 5, /*gradients=*/true, device, sharding,
                    expert_group, /*expert_chunks=*/2);
}

// Two documents of random tokens; the cut and what is masked follow from the sample.
Batch MakeBatch(int64_t sample) {
  constexpr int32_t kLength = kSelfTestRows;
  std::vector<int32_t> ids(kSelfTestRows), targets(kSelfTestRows, -1);
  for (int32_t t = 0; t < kLength; ++t) {
    const double drawn = PhiloxUniform(17, static_cast<uint64_t>(sample), static_cast<uint64_t>(t));
    ids[static_cast<size_t>(t)] = static_cast<int32_t>(drawn * kVocabulary);
  }
  Batch batch;
  const auto cut = static_cast<int32_t>(20 + 31 * (sample % 5));
  for (int32_t t = 0; t + 1 < kLength; ++t) {
    if (t + 1 == cut || (sample % 3 == 0 && t % 4 == 0)) continue;
    targets[static_cast<size_t>(t)] = ids[static_cast<size_t>(t) + 1];
    ++batch.num_target_tokens;
  }
  batch.ids = Tensor::FromVector(ids, {kSelfTestRows});
  batch.targets = Tensor::FromVector(targets, {kSelfTestRows});
  batch.sequences = PackedSequences({0, cut, kLength});
  batch.tokens_per_source = {kSelfTestRows};
  batch.source_of_sample = {0};
  return batch;
}

// What follows from how many rows went where: in bf16, where some are near ties, judged by the share of
// rows that are routed alike.
bool CountsChoices(const std::string& name) {
  return name.ends_with(".max_load") || name.ends_with(".unused_experts") ||
         name.ends_with(".load_entropy");
}

// options.steps steps of `ranks` x kSamplesOfRank samples on the ranks of `comm`.
absl::StatusOr<TrainingTrace> TrainSteps(const SelfTestWay& way, int ranks, Communicator& comm,
                                         Device device, const SelfTestOptions& options) {
  const bool alone = comm.size() == 1;
  const int context = alone ? 1 : way.context, groups = comm.size() / context;
  LACUNA_ASSIGN_OR_RETURN(Mesh mesh,
                          MakeMesh(comm, alone ? 1 : way.expert, context, alone ? 0 : way.shard));
  Recipe recipe;
  if (!alone) recipe.parallel = {.zero = way.zero};
  Sharding sharding = ShardingOf(recipe, mesh);
  sharding.bucket_bytes = 1 << 16;
  BuiltModel built = Build(way, ranks, device, sharding, mesh.expert_group());
  AdamW optimizer(*built.parameters, {});
  GradientReducer reducer(*built.parameters, mesh.share_group(), mesh.replica.get(),
                          mesh.copy_group());
  TrainingStep step(built, optimizer, reducer, comm, /*clip_norm=*/1.0, kSelfTestRows,
                    mesh.context_group());
  const int64_t global_batch = ranks * kSamplesOfRank;
  TrainingTrace trace;
  std::optional<RoutingRecord> routing(std::in_place, built.moe_layers);
  for (int64_t s = 0; s < options.steps; ++s) {
    comm.log().SetContext(fmt::format("self-test, {}, step {}", way.Describe(), s + 1));
    std::vector<Batch> batches;
    for (int64_t i = comm.rank() / context; i < global_batch; i += groups) {
      batches.push_back(MakeBatch(s * global_batch + i));
      KeepContextRows(&batches.back(), kSelfTestRows, context, mesh.context->rank());
    }
    Metrics metrics;
    const StepResult result = step.Run(batches, 1e-3, &metrics);
    if (!result.skipped.empty())
      return MakeError(ExitCode::kNumerics,
                       fmt::format("self-test, {}, {} ranks: step {} was skipped, because {}",
                                   way.Describe(), comm.size(), s + 1, result.skipped));
    if (routing.has_value()) trace.routing = routing->OfAllRanks(comm, context);
    routing.reset();
    trace.losses.push_back(result.loss);
    if (options.on_step)
      options.on_step(alone ? "one rank, for comparison" : way.Describe(), s + 1);
    for (const auto& [name, values] : metrics.vectors())
      trace.choices.insert(trace.choices.end(), values.begin(), values.end());
    built.model->ForEachBuffer([&](const std::string&, Tensor& buffer) {
      for (const double b : buffer.ToDoubles()) trace.choices.push_back(b);
    });
    if (s >= kComparedSteps) continue;
    trace.norms.push_back(result.gradient_norm);
    for (const auto& [name, entry] : metrics.scalars()) {
      if (CountsChoices(name) && way.dtype == DType::kBF16) continue;
      trace.telemetry.push_back(entry.mean());
    }
    if (way.dtype == DType::kBF16) continue;
    for (const auto& [name, values] : metrics.vectors())
      trace.telemetry.insert(trace.telemetry.end(), values.begin(), values.end());
  }
  built.model->ForEachBuffer([&](const std::string&, Tensor& buffer) {
    for (const double b : buffer.ToDoubles()) trace.bias.push_back(b);
  });
  return trace;
}

std::string BytesOf(const std::vector<double>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)};
}
std::vector<double> DoublesOf(const std::string& bytes) {
  std::vector<double> values(bytes.size() / sizeof(double));
  std::copy_n(bytes.data(), values.size() * sizeof(double), reinterpret_cast<char*>(values.data()));
  return values;
}

// What one rank computes, of rank 0, to all.
absl::StatusOr<TrainingTrace> Reference(const SelfTestWay& way, Communicator& comm, Device device,
                                        const SelfTestOptions& options) {
  absl::StatusOr<TrainingTrace> trace = TrainingTrace{};
  if (comm.rank() == 0)
    trace = TrainSteps(way, comm.size(), *MakeSelfCommunicator(), device, options);
  const Deadline deadline = AfterSeconds(comm.timeout_seconds());
  LACUNA_RETURN_IF_ERROR(AgreeOnStatus(comm, trace.status(), deadline));
  for (std::vector<double>* values : {&trace->losses, &trace->norms, &trace->telemetry,
                                      &trace->bias, &trace->routing, &trace->choices})
    *values = DoublesOf(BroadcastNow(comm, BytesOf(*values), 0, deadline));
  return trace;
}

}  // namespace

absl::StatusOr<SelfTestResult> RunSelfTest(Communicator& comm, Device device,
                                           const SelfTestOptions& options) {
  const SteadyClock::time_point start = SteadyClock::now();
  SelfTestResult result;
  LACUNA_ASSIGN_OR_RETURN(const std::vector<SelfTestWay> ways,
                          ChosenWays(comm.size(), device, options));
  std::map<DType, TrainingTrace> references;  // the same for all ways of sharing
  for (const SelfTestWay& way : ways) {
    LACUNA_ASSIGN_OR_RETURN(const TrainingTrace many,
                            TrainSteps(way, comm.size(), comm, device, options));
    if (!references.contains(way.dtype)) {
      LACUNA_ASSIGN_OR_RETURN(references[way.dtype],
                              Reference({way.dtype, 1, 0, false}, comm, device, options));
    }
    const TrainingTrace& one = references[way.dtype];
    // In bf16 near ties are frequent, and their limit is for all steps.
    const size_t alike = way.dtype == DType::kF32
                             ? std::max<size_t>(StepsWithTheSameChoices(many, one),
                                                static_cast<size_t>(kComparedSteps))
                             : one.losses.size();
    std::vector<double> found = {LargestDifference(many.losses, one.losses, 1e-3, 0, alike),
                                 LargestDifference(many.norms, one.norms, 1e-3),
                                 LargestDifference(many.telemetry, one.telemetry, 1e-3),
                                 LargestDifference(many.bias, one.bias, 1.0),
                                 LargestDifference(many.losses, one.losses, 1e-3, alike)};
    // The worst rank's, on all ranks.
    std::vector<std::string> of_ranks;
    comm.AllGather(BytesOf(found), &of_ranks).Wait();
    for (const std::string& text : of_ranks) {
      const std::vector<double> values = DoublesOf(text);
      for (size_t i = 0; i < found.size(); ++i) found[i] = std::max(found[i], values[i]);
    }
    result.rows.push_back({.what = way.Describe(),
                           .loss = found[0],
                           .norm = found[1],
                           .telemetry = found[2],
                           .steps_alike = static_cast<int64_t>(alike),
                           .late_loss = found[4],
                           .late_limit = kApart,
                           .bias = found[3],
                           .limit = LimitOf(way.dtype),
                           .routing = CompareRouting(many.routing, one.routing, kExpertsPerToken),
                           .routed_alike = way.dtype == DType::kF64 ? 1.0 : 0.99});
    if (options.on_row) options.on_row(result.rows.back());
  }
  result.seconds = SecondsSince(start);
  return result;
}

}  // namespace lacuna
