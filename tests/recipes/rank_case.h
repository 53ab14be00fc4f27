// A tiny model and steps of it for any number of ranks: the same samples, however they are dealt.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "core/parallel.h"
#include "distributed/gradient_reducer.h"
#include "distributed/mesh.h"
#include "recipes/trainer/batch_share.h"
#include "recipes/trainer/checkpoints.h"
#include "recipes/trainer/training_step.h"
#include "tests/support/random.h"

namespace lacuna::test {

inline constexpr int64_t kRows = 48, kGlobalBatch = 8, kVocabulary = 50;

struct Variant {
  AttentionKind attention;
  RouterKind router;
  AuxLossScope aux_loss;
  const char* name;
  bool tied = false;
  int64_t layers = 2;
};

constexpr Variant kNsaSigmoid{AttentionKind::kNsa, RouterKind::kSigmoid, AuxLossScope::kNone,
                              "nsa_sigmoid"};

struct RankOptions {
  int64_t steps = 20;
  int64_t micro_batch = 1;
  DType dtype = DType::kF64;
  bool shard_updates = false, shard_values = false;
  int expert = 1, context = 1, shard = 0;  // of more than one rank
  RecomputePolicy recompute = {};
  std::function<void(BuiltModel&, AdamW&)> at_end = [](BuiltModel&, AdamW&) {};
};

inline BuiltModel Build(const Variant& variant, DType dtype = DType::kF64,
                        const Sharding& sharding = {}, RecomputePolicy recompute = {},
                        Communicator* expert_group = nullptr) {
  ModelConfig model;
  model.attention = variant.attention;
  model.num_layers = variant.layers;
  model.num_dense_layers = 1;
  model.width = 16;
  model.vocab_size = kVocabulary;
  model.num_heads = 4;
  model.num_groups = 2;
  model.head_dim_qk = 8;
  model.head_dim_v = 4;
  model.rotary_dims = 4;
  model.dense_width = 24;
  model.init_std = 0.2;
  model.tie_embeddings = variant.tied;
  MoeConfig moe{.num_experts = 4, .experts_per_token = 2, .expert_width = 8, .num_shared = 1};
  moe.router = variant.router;
  moe.aux_loss = variant.aux_loss;
  if (variant.aux_loss != AuxLossScope::kNone) moe.aux_loss_coef = 0.01;
  moe.z_loss_coef = 0.001;
  const NsaConfig nsa{.block = 8,
                      .stride = 4,
                      .select_block = 8,
                      .num_selected = 3,
                      .num_init = 1,
                      .num_local = 1,
                      .window = 6};
  return BuildModel(model, nsa, moe, recompute, dtype, 3, /*gradients=*/true, kCpu, sharding,
                    expert_group, /*expert_chunks=*/2);
}

// Samples of unequal numbers of targets: documents of different lengths, some rows masked.
inline Batch MakeBatch(const std::vector<int64_t>& samples) {
  Batch batch;
  std::vector<int32_t> ids, targets, cu{0};
  for (const int64_t sample : samples) {
    const Tensor drawn = RandomIds({kRows}, kVocabulary, static_cast<uint64_t>(100 + sample));
    const int32_t* id = drawn.data<int32_t>();
    const auto cut = static_cast<int32_t>(5 + 7 * (sample % 6));
    for (int32_t t = 0; t < kRows; ++t) {
      ids.push_back(id[t]);
      const bool masked = t + 1 == cut || t + 1 == kRows || (sample % 3 == 0 && t % 4 == 0);
      targets.push_back(masked ? -1 : id[t + 1]);
      batch.num_target_tokens += masked ? 0 : 1;
    }
    batch.content_hash += 0x9E3779B97F4A7C15 * static_cast<uint64_t>(sample + 1);
    cu.push_back(cu.back() + cut);
    cu.push_back(static_cast<int32_t>(ids.size()));
  }
  const auto n = static_cast<int64_t>(ids.size());
  batch.ids = Tensor::FromVector(ids, {n});
  batch.targets = Tensor::FromVector(targets, {n});
  batch.sequences = PackedSequences(cu);
  batch.tokens_per_source = {n};
  batch.source_of_sample.assign(samples.size(), 0);
  return batch;
}

// This rank's place among all ranks, which have every parameter whole.
inline Sharding ShardingFor(const Communicator& comm, bool shard_updates,
                            bool shard_values = false) {
  return {.whole = {.size = comm.size(), .rank = comm.rank()},
          .parts = {},
          .bucket_bytes = 1 << 12,
          .shard_updates = shard_updates,
          .shard_values = shard_values};
}

struct Trace {
  std::vector<double> losses, norms, telemetry;
  std::vector<uint64_t> data_hashes;
  std::vector<double> weights, bias;  // after the last step; weights in order of use
  uint64_t hash = 0;                  // of weights and optimizer
};

// Of what the ranks have of entry `e`.
inline Tensor WholeValue(const FlatParameters& parameters, size_t e, Communicator& shares,
                         Communicator& expert) {
  const Parameter& part = *parameters.entries()[e].parameter;
  if (part.value.defined() && part.global_shape() == part.shape) return part.value;
  Tensor whole = Tensor::Zeros(part.global_shape(), parameters.dtype());
  if (part.value.defined()) {
    whole.View(part.first_element(), part.shape).CopyFrom(part.value);
    expert.AllReduceSum(whole).Wait();
    return whole;
  }
  for (const FlatPiece& piece : parameters.layout().updated) {
    if (piece.entry == e)
      whole.View(piece.first, {piece.count}).CopyFrom(parameters.ValueOf(piece));
  }
  shares.AllReduceSum(whole).Wait();
  return whole;
}

inline Trace TrainSteps(const Variant& variant, Communicator& comm, const RankOptions& options) {
  const bool alone = comm.size() == 1;
  const int context = alone ? 1 : options.context, groups = comm.size() / context;
  const Mesh mesh = *MakeMesh(comm, alone ? 1 : options.expert, context, alone ? 0 : options.shard);
  Sharding sharding = ShardingFor(comm, options.shard_updates, options.shard_values);
  sharding.whole = {.size = mesh.share_group().size(), .rank = mesh.share_group().rank()};
  sharding.parts = {.size = mesh.replica->size(), .rank = mesh.replica->rank()};
  if (mesh.copy_group() != nullptr)
    sharding.copies = {.size = mesh.copy_group()->size(), .rank = mesh.copy_group()->rank()};
  BuiltModel built =
      Build(variant, options.dtype, sharding, options.recompute, mesh.expert_group());
  AdamW optimizer(*built.parameters, {});
  GradientReducer reducer(*built.parameters, mesh.share_group(), mesh.replica.get(),
                          mesh.copy_group());
  TrainingStep step(built, optimizer, reducer, comm, 0.5, kRows, mesh.context_group());
  Trace trace;
  for (int64_t s = 0; s < options.steps; ++s) {
    std::vector<Batch> batches;
    for (int64_t i = 0; i < kGlobalBatch / groups / options.micro_batch; ++i) {
      std::vector<int64_t> samples;
      for (int64_t j = 0; j < options.micro_batch; ++j) {
        samples.push_back(s * kGlobalBatch +
                          (i * groups + comm.rank() / context) * options.micro_batch + j);
      }
      batches.push_back(MakeBatch(samples));
      KeepContextRows(&batches.back(), kRows, context, mesh.context->rank());
    }
    Metrics metrics;
    const StepResult result = step.Run(batches, 1e-3, &metrics);
    EXPECT_EQ(result.skipped, "");
    trace.losses.push_back(result.loss);
    trace.norms.push_back(result.gradient_norm);
    trace.data_hashes.push_back(result.data_hash);
    for (const StepResult::Source& source : result.sources) {
      trace.telemetry.insert(
          trace.telemetry.end(),
          {static_cast<double>(source.tokens), static_cast<double>(source.targets), source.loss});
    }
    for (const auto& [name, entry] : metrics.scalars()) trace.telemetry.push_back(entry.mean());
    for (const auto& [name, values] : metrics.vectors())
      trace.telemetry.insert(trace.telemetry.end(), values.begin(), values.end());
  }
  for (size_t e = 0; e < built.parameters->entries().size(); ++e) {
    for (const double w :
         WholeValue(*built.parameters, e, mesh.share_group(), *mesh.expert).ToDoubles())
      trace.weights.push_back(w);
  }
  built.model->ForEachBuffer([&](const std::string&, Tensor& buffer) {
    for (const double b : buffer.ToDoubles()) trace.bias.push_back(b);
  });
  trace.hash = StateHash(comm, TensorsOf(built, &optimizer));
  options.at_end(built, optimizer);
  return trace;
}

}  // namespace lacuna::test
