// What a checkpoint holds of a run: named logical tensors, of which a rank has slices, and scalars.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace lacuna {

// Elements [offset, offset + tensor.numel()) of the row-major elements of a tensor of global_shape.
struct TensorSlice {
  std::string
      name;  // "<group>/<name>", e.g. "model/layers.3.attention.q_proj.weight"; what a file or a log calls it
  Shape global_shape;
  int64_t offset = 0;
  Tensor tensor;  // on the CPU, of any shape
  // Every rank has this same slice (the ranks share the work of writing it); otherwise this rank
  // alone has it.
  bool replicated = true;
};

struct TrainingState {
  std::vector<TensorSlice> tensors;
  // Steps, counters, data cursor, RNG ...: an object of finite numbers and text, the same on every
  // rank.
  nlohmann::json scalars = nlohmann::json::object();

  // A whole tensor that every rank has.
  void Add(std::string name, Tensor tensor) {
    Shape shape = tensor.shape();
    tensors.push_back(
        {.name = std::move(name), .global_shape = std::move(shape), .tensor = std::move(tensor)});
  }
};

// XXH3-64 over all tensors in order: name, dtype and shape as text, then the elements' bytes. Needs
// whole tensors. The same for the checkpoint that is written of the state
// (CheckpointReader::StateHash), whatever the number of ranks.
uint64_t StateHash(const TrainingState& state);

}  // namespace lacuna
