// Section `parallel` of a recipe: how the ranks of a run share the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lacuna {

// The samples of a step are dealt to all ranks (train.global_batch), or to all groups of `context`.
struct ParallelConfig {
  // Ranks that share the experts of a layer: each holds num_experts / expert of them, and tokens
  // travel. Divides the number of ranks; ranks / expert groups hold the same experts.
  int64_t expert = 1;
  // In which chunks tokens travel to their experts (moe/dispatcher.h). 0: 2, where that leaves each
  // kChunkTokens of a rank's micro-batch, a MB or more of rows, else 1.
  int64_t expert_chunks = 0;
  // Consecutive ranks that share each sample, for samples too long for one: each has pieces of it
  // (nn/context_share.h). Divides the number of ranks; twice it divides train.sequence_length.
  int64_t context = 1;
  // What every rank holds of the parameters that are not dealt out as experts. 0: weights, gradients
  // and optimizer state; 2: weights and its share of gradients and optimizer state; 3: its share of
  // all, and the weights of the block at work and the next one.
  int64_t zero = 0;
  // Consecutive ranks (a node's) over which those shares are cut; 0: all. Divides the number of ranks;
  // others have the same shares, and sum their gradients once a step.
  int64_t shard = 0;
  // For which a rank waits for others; LACUNA_TIMEOUT_SECONDS comes first.
  double timeout_seconds = 120;

  static constexpr int64_t kChunkTokens = 512, kMaxChunks = 16;

  // Appends one line for every violated rule, naming `section`.key and value.
  void Validate(const std::string& section, std::vector<std::string>* violations) const;
};

}  // namespace lacuna
