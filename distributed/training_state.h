// What a checkpoint holds of a run: named logical tensors, of which a rank has pieces, and scalars.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "distributed/communicator.h"

namespace lacuna {

// Elements [offset, offset + tensor.numel()) of the row-major elements of a tensor of global_shape.
// A rank without any elements of a tensor names it, too, with an empty piece.
struct TensorSlice {
  std::string
      name;  // "<group>/<name>", e.g. "model/layers.3.attention.q_proj.weight"; what a file or a log calls it
  Shape global_shape;
  int64_t offset = 0;
  Tensor tensor;  // on the CPU, of any shape
  // `replicas` ranks have this same piece, this rank is number `replica` of them; they share the
  // work of writing it. All pieces of one number of replicas are those of one group of ranks, and
  // stand in the same order on each of them. 0: every rank of the run has it.
  int replica = 0;
  int replicas = 0;
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

// The hash of distributed/state_hash.h over all tensors. The same for the checkpoint that is written
// of the state (CheckpointReader::StateHash) and for any other cut of it. Needs whole tensors.
uint64_t StateHash(const TrainingState& state);
// Collective: of the pieces of all ranks, each counted once. Throws CommunicationError.
uint64_t StateHash(Communicator& comm, const TrainingState& state);

}  // namespace lacuna
