// Sections `run`, `init_from` and `train` of a recipe: where a run writes, what it starts from, and
// how it steps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "nn/transformer_block.h"

namespace lacuna {

struct RunConfig {
  std::string name;
  std::string dir;  // checkpoints, logs and the resolved recipe
  int64_t seed = 1;
  // Part of the samples' order: another stage of the same plan meets the data in another order.
  std::string stage = "pretrain";

  // Appends one line for every violated rule, naming `section`.key and value.
  void Validate(const std::string& section, std::vector<std::string>* violations) const;
};

enum class InitLoad { kWeights, kWeightsAndOptimizer };

// A stage starts from the model that another run left.
struct InitConfig {
  std::string
      path;  // a run's folder (its last whole checkpoint) or a checkpoint's; empty: from seed
  InitLoad load = InitLoad::kWeights;

  bool given() const { return !path.empty(); }
};

// The first steps of a run with fewer samples each.
struct BatchPhase {
  int64_t steps = 0;
  int64_t global_batch = 0;
};

// Where a rank computes; kAuto: on a CUDA card where there is one and the dtype allows it.
enum class DeviceChoice { kAuto, kCpu, kCuda };

struct TrainConfig {
  int64_t sequence_length = 8192;        // T, tokens of a sample
  int64_t micro_batch = 1;               // samples a rank takes through the model at once
  int64_t global_batch = 512;            // samples of an optimizer step, over all ranks
  std::vector<BatchPhase> batch_warmup;  // one after the other, before global_batch holds
  int64_t steps = 0;                     // optimizer steps of the whole run
  int64_t threads = 0;        // of a rank; 0 shares all cores among the ranks of the machine
  DType dtype = DType::kF32;  // f32, f64 or bf16
  DeviceChoice device = DeviceChoice::kAuto;
  bool deterministic = true;        // two runs give the same bits
  RecomputePolicy recompute;        // none, block, or [attention, feed_forward]; recompute_keeps
  int64_t checkpoint_every = 1000;  // steps; 0: only at the end and when asked to stop
  bool async_checkpoint = true;     // written while training goes on
  int64_t keep_latest = 3;          // checkpoints
  int64_t eval_every = 1000;        // steps; 0: only at the end
  int64_t eval_samples = 0;         // of each validation set; 0: all
  int64_t log_every = 10;           // steps
  int64_t max_nonfinite_steps = 5;  // skipped steps in a row before the run ends
  int64_t bucket_mb = 32;           // size of a gradient bucket, MiB
  double memory_limit_gib = 0;      // of tensors and workspaces of a rank; 0: all there is

  // Samples of step `step` (from 0).
  int64_t GlobalBatchAt(int64_t step) const;
  // The step that takes sample `sample` of the stream.
  int64_t StepOfSample(int64_t sample) const;
  // Samples of the first `steps_done` steps.
  int64_t SamplesIn(int64_t steps_done) const;
  // Whether a save after `steps_done`, other than the last one, is to be written in the background.
  bool SavesInBackground(int64_t steps_done) const;

  // Appends one line for every violated rule, naming `section`.key and value.
  void Validate(const std::string& section, std::vector<std::string>* violations) const;
};

}  // namespace lacuna
