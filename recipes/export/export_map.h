// Which tensor of the model becomes which tensor of an exported folder. The same table serves
// export and import, so that one undoes the other; whatever it does not name is an error, never
// left out.
//
//   embed_tokens.weight, norm.weight, layers.<i>.*   get "model." in front; lm_head.weight stays
//   *.gate_up_proj.weight [2F, C]                    *.gate_proj.weight, *.up_proj.weight [F, C]
//   *.experts.gate_up_proj.weight [E, 2F, C]         *.experts.<e>.{gate,up}_proj.weight [F, C]
//   *.experts.down_proj.weight [E, C, F]             *.experts.<e>.down_proj.weight [C, F]
//   Glm4Moe: v_proj [G Dv, C], o_proj [C, H Dv]      [G Dk, C], [C, H Dk]: each value head is
//                                                    followed by Dk - Dv zeros
//   NSA: phi_{k,v}.pos, .w, .w1, .w2                 cmp_pos_{k,v}, phi_{k,v}.{w,w1,w2}.weight
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor.h"
#include "data/safetensors_writer.h"
#include "nn/model_config.h"
#include "recipes/model_builder.h"

namespace lacuna {

enum class ExportArchitecture {
  kGlm4Moe,  // Glm4MoeForCausalLM, which inference stacks have; full attention, sigmoid router
  kNsaMoe,   // nsa_moe, with its own PyTorch code; everything
};

// A tensor of the folder: `blocks` blocks of `block` elements in row-major order. Of each block the
// first source_block elements are the source's next ones, from element `offset` on; the rest is
// zero.
struct ExportTensor {
  std::string name;
  Shape shape;
  std::string source;  // parameter or buffer of the model
  int64_t offset = 0;
  int64_t blocks = 1;
  int64_t block = 0;
  int64_t source_block = 0;
  bool wide = false;  // f32 whatever the model is exported in: the router

  int64_t source_elements() const { return blocks * source_block; }
};

// The parameters' master copies and the buffers of a model, by name.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};
std::vector<NamedTensor> TensorsByName(BuiltModel& built);

// One or more tensors of the folder for every tensor of the model, in the model's order; together
// they hold each of its elements once. A CheckpointError lists the tensors that have no name there.
absl::StatusOr<std::vector<ExportTensor>> MapModel(const std::vector<NamedTensor>& tensors,
                                                   const ModelConfig& model,
                                                   ExportArchitecture architecture);

// As the files are planned: embeddings and head each a group, a layer a group with its routed
// experts as a subgroup.
std::vector<SafetensorsGroup> GroupTensors(const std::vector<ExportTensor>& map, DType dtype);

// Elements [begin, begin + count) of an exported tensor into `out` as f32 or bf16 (rounded once).
void GatherExported(const ExportTensor& exported, const Tensor& source, int64_t begin,
                    int64_t count, DType dtype, void* out);
// The other way: the source's elements from the whole exported tensor's bytes (unaligned, of type
// `from`). False where an element that must be zero is not.
bool ScatterExported(const ExportTensor& exported, const char* data, DType from, Tensor* source);

// The source's elements as they are after a round trip through the file's type.
void RoundLikeExported(const ExportTensor& exported, DType dtype, Tensor* source);

}  // namespace lacuna
