// What the tests of evaluations share: a tokenizer without merges, a small model, and training it
// until it knows a text by heart.
#pragma once

#include <cmath>

#include "core/error.h"
#include "core/status.h"
#include "data/tokenizer/bpe_trainer.h"
#include "nn/optimizer.h"
#include "recipes/model_builder.h"

namespace lacuna::test {

// The special tokens of every trained tokenizer and the 256 bytes: 320 tokens.
inline Tokenizer ByteTokenizer() {
  const auto trainer = BpeTrainer::Create({.vocab_size = 320});
  LACUNA_CHECK(trainer.ok(), "{}", Message(trainer.status()));
  auto tokenizer = trainer->Train();
  LACUNA_CHECK(tokenizer.ok(), "{}", Message(tokenizer.status()));
  return *std::move(tokenizer);
}

inline const NsaConfig kEvaluationNsa{.block = 8,
                                      .stride = 4,
                                      .select_block = 16,
                                      .num_selected = 4,
                                      .num_init = 1,
                                      .num_local = 2,
                                      .window = 16};

inline BuiltModel SmallModel(AttentionKind attention, DType dtype, int64_t vocabulary = 320,
                             const NsaConfig& nsa = kEvaluationNsa) {
  ModelConfig model;
  model.attention = attention;
  model.num_layers = 2;
  model.num_dense_layers = 2;
  model.width = 32;
  model.vocab_size = vocabulary;
  model.num_heads = 4;
  model.num_groups = 2;
  model.head_dim_qk = 16;
  model.head_dim_v = 8;
  model.rotary_dims = 8;
  model.rope_theta = 1000;
  model.dense_width = 64;
  model.init_std = 0.1;
  return BuildModel(model, nsa, {}, {}, dtype, 3);
}

// Until every token of `ids` behind the first `prompt` ones is the likeliest by far.
inline void LearnByHeart(BuiltModel& built, const std::vector<int32_t>& ids, size_t prompt) {
  const auto n = static_cast<int64_t>(ids.size()) - 1;
  std::vector<int32_t> targets(ids.begin() + 1, ids.end());
  std::fill(targets.begin(), targets.begin() + static_cast<int64_t>(prompt) - 1, -1);
  const Tensor in = Tensor::FromVector(std::vector<int32_t>(ids.begin(), ids.end() - 1), {n}),
               out = Tensor::FromVector(targets, {n});
  const PackedSequences sequences = PackedSequences::Single(n);
  AdamW optimizer(*built.parameters, {.weight_decay = 0});
  double largest = 10;
  for (int step = 0; step < 400 && largest > 0.1; ++step) {
    built.parameters->ZeroGrad();
    Tape tape;
    ForwardContext ctx{.tape = tape, .sequences = sequences, .rows_per_sample = n};
    const auto result = built.model->Loss(ctx, in, out, 1.0 / static_cast<double>(n));
    tape.BackwardFrom(result.loss);
    optimizer.Step(1e-2, MeasureGradients(*built.parameters, result.loss.value(), 1.0).clip_factor);
    largest = 0;
    for (const double row : result.row_loss.ToDoubles()) largest = std::max(largest, row);
  }
  LACUNA_CHECK(largest <= 0.1, "the text was not learnt: the worst token has loss {}", largest);
}

}  // namespace lacuna::test
