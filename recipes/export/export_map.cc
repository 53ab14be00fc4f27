#include "recipes/export/export_map.h"

#include <algorithm>
#include <array>
#include <map>

#include "absl/strings/match.h"
#include "core/error.h"
#include "core/status.h"

namespace lacuna {
namespace {

constexpr size_t kMaxListed = 8;

// Tensors of a layer that keep their name and shape.
constexpr std::array kSameName = {
    "input_layernorm.weight",      "post_attention_layernorm.weight",
    "self_attn.q_proj.weight",     "self_attn.k_proj.weight",
    "self_attn.q_norm.weight",     "self_attn.k_norm.weight",
    "self_attn.cmp_k_proj.weight", "self_attn.cmp_v_proj.weight",
    "self_attn.slc_k_proj.weight", "self_attn.slc_v_proj.weight",
    "self_attn.win_k_proj.weight", "self_attn.win_v_proj.weight",
    "self_attn.cmp_k_norm.weight", "self_attn.slc_k_norm.weight",
    "self_attn.win_k_norm.weight", "self_attn.gate_proj.weight",
    "mlp.down_proj.weight",        "mlp.shared_experts.down_proj.weight"};
// And those that are renamed.
const std::map<std::string, std::string>& NewNames() {
  static const std::map<std::string, std::string> names = {
      {"self_attn.phi_k.pos", "self_attn.cmp_pos_k"},
      {"self_attn.phi_v.pos", "self_attn.cmp_pos_v"},
      {"self_attn.phi_k.w", "self_attn.phi_k.w.weight"},
      {"self_attn.phi_v.w", "self_attn.phi_v.w.weight"},
      {"self_attn.phi_k.w1", "self_attn.phi_k.w1.weight"},
      {"self_attn.phi_v.w1", "self_attn.phi_v.w1.weight"},
      {"self_attn.phi_k.w2", "self_attn.phi_k.w2.weight"},
      {"self_attn.phi_v.w2", "self_attn.phi_v.w2.weight"}};
  return names;
}

// Maps one model's tensors.
class Mapper {
 public:
  Mapper(const ModelConfig& model, ExportArchitecture architecture)
      : model_(model), pad_values_(architecture == ExportArchitecture::kGlm4Moe) {}

  // False where the tensor has no name in the folder.
  bool Map(const NamedTensor& source) {
    name_ = source.name;
    shape_ = source.tensor.shape();
    if (name_ == "embed_tokens.weight" || name_ == "norm.weight") return Copy("model." + name_);
    if (name_ == "lm_head.weight") return Copy(name_);
    const size_t dot = name_.find('.', sizeof("layers.") - 1);
    if (!name_.starts_with("layers.") || dot == std::string::npos) return false;
    return MapLayer("model." + name_.substr(0, dot + 1), name_.substr(dot + 1));
  }

  std::vector<ExportTensor> Take() { return std::move(map_); }

 private:
  bool MapLayer(const std::string& layer, const std::string& local) {
    const auto renamed = NewNames().find(local);
    if (renamed != NewNames().end()) return Copy(layer + renamed->second);
    if (std::find(kSameName.begin(), kSameName.end(), local) != kSameName.end())
      return Copy(layer + local);
    if (local == "mlp.gate.weight" || local == "mlp.gate.e_score_correction_bias")
      return Copy(layer + local, /*wide=*/true);
    if (local == "self_attn.v_proj.weight") return Values(layer + local);
    if (local == "self_attn.o_proj.weight") return Outputs(layer + local);
    if (local == "mlp.experts.gate_up_proj.weight") {
      for (int64_t e = 0; e < shape_[0]; ++e)
        GateAndUp(layer + "mlp.experts." + std::to_string(e) + ".", e * shape_[1] * shape_[2],
                  shape_[1] / 2, shape_[2]);
      return true;
    }
    if (local == "mlp.experts.down_proj.weight") {
      for (int64_t e = 0; e < shape_[0]; ++e)
        Part(layer + "mlp.experts." + std::to_string(e) + ".down_proj.weight",
             e * shape_[1] * shape_[2], {shape_[1], shape_[2]});
      return true;
    }
    for (const char* dense : {"mlp.", "mlp.shared_experts."}) {
      if (local != std::string(dense) + "gate_up_proj.weight") continue;
      GateAndUp(layer + dense, 0, shape_[0] / 2, shape_[1]);
      return true;
    }
    return false;
  }

  // `shape` elements of the source from `offset` on, as they are.
  void Part(const std::string& name, int64_t offset, Shape shape, bool wide = false) {
    const int64_t elements = NumElements(shape);
    map_.push_back({.name = name,
                    .shape = std::move(shape),
                    .source = name_,
                    .offset = offset,
                    .block = elements,
                    .source_block = elements,
                    .wide = wide});
  }

  bool Copy(const std::string& name, bool wide = false) {
    Part(name, 0, shape_, wide);
    return true;
  }

  void GateAndUp(const std::string& prefix, int64_t offset, int64_t hidden, int64_t width) {
    Part(prefix + "gate_proj.weight", offset, {hidden, width});
    Part(prefix + "up_proj.weight", offset + hidden * width, {hidden, width});
  }

  // v_proj: rows of a group's head, then zero rows up to the key's width.
  bool Values(const std::string& name) {
    if (!pad_values_) return Copy(name);
    map_.push_back({.name = name,
                    .shape = {model_.num_groups * model_.head_dim_qk, model_.width},
                    .source = name_,
                    .blocks = model_.num_groups,
                    .block = model_.head_dim_qk * model_.width,
                    .source_block = model_.head_dim_v * model_.width});
    return true;
  }

  // o_proj: the columns that read those rows.
  bool Outputs(const std::string& name) {
    if (!pad_values_) return Copy(name);
    map_.push_back({.name = name,
                    .shape = {model_.width, model_.num_heads * model_.head_dim_qk},
                    .source = name_,
                    .blocks = model_.width * model_.num_heads,
                    .block = model_.head_dim_qk,
                    .source_block = model_.head_dim_v});
    return true;
  }

  const ModelConfig& model_;
  bool pad_values_;
  std::string name_;  // of the source at hand
  Shape shape_;
  std::vector<ExportTensor> map_;
};

// Each element of each source once, each name once.
absl::Status CheckComplete(const std::vector<NamedTensor>& tensors,
                           const std::vector<ExportTensor>& map) {
  std::map<std::string, int64_t> taken;
  std::map<std::string, int> names;
  for (const ExportTensor& exported : map) {
    int64_t& next = taken[exported.source];
    if (exported.offset != next || NumElements(exported.shape) != exported.blocks * exported.block)
      return CheckpointError("{}: its elements do not follow those before it in {}", exported.name,
                             exported.source);
    next += exported.source_elements();
    if (++names[exported.name] > 1)
      return CheckpointError("{}: two tensors would have this name", exported.name);
  }
  for (const NamedTensor& source : tensors) {
    if (taken[source.name] != source.tensor.numel())
      return CheckpointError("{}: {} of its {} elements would be exported", source.name,
                             taken[source.name], source.tensor.numel());
  }
  return absl::OkStatus();
}

template <class T>
float AsFloat(const char* data, int64_t i) {
  T value;
  std::memcpy(&value, data + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return static_cast<float>(value);
}

float ElementOf(const char* data, DType dtype, int64_t i) {
  return dtype == DType::kBF16 ? AsFloat<BFloat16>(data, i) : AsFloat<float>(data, i);
}

float RoundTo(DType dtype, float value) {
  return dtype == DType::kBF16 ? static_cast<float>(BFloat16(value)) : value;
}

// f(element of the source) for elements [offset, offset + n), which it may change.
template <class F>
void ForSource(Tensor& source, int64_t offset, int64_t n, F&& f) {
  if (source.dtype() == DType::kF64) {
    double* x = source.mutable_data<double>() + offset;
    for (int64_t i = 0; i < n; ++i) x[i] = f(i, static_cast<float>(x[i]));
  } else {
    float* x = source.mutable_data<float>() + offset;
    for (int64_t i = 0; i < n; ++i) x[i] = f(i, x[i]);
  }
}

}  // namespace

std::vector<NamedTensor> TensorsByName(BuiltModel& built) {
  std::vector<NamedTensor> tensors;
  for (const FlatParameters::Entry& entry : built.parameters->entries())
    tensors.push_back({entry.parameter->name, built.parameters->MasterOf(entry)});
  built.model->ForEachBuffer([&](const std::string& name, Tensor& buffer) {
    tensors.push_back({name, buffer});
  });
  return tensors;
}

absl::StatusOr<std::vector<ExportTensor>> MapModel(const std::vector<NamedTensor>& tensors,
                                                   const ModelConfig& model,
                                                   ExportArchitecture architecture) {
  Mapper mapper(model, architecture);
  std::vector<std::string> unmapped;
  for (const NamedTensor& source : tensors) {
    if (!mapper.Map(source)) unmapped.push_back(source.name);
  }
  if (!unmapped.empty()) {
    const size_t count = unmapped.size();
    unmapped.resize(std::min(count, kMaxListed));
    return CheckpointError("{} tensor{} of the model ha{} no name in the export: {}{}", count,
                           count == 1 ? "" : "s", count == 1 ? "s" : "ve",
                           fmt::join(unmapped, ", "), count > kMaxListed ? ", ..." : "");
  }
  std::vector<ExportTensor> map = mapper.Take();
  LACUNA_RETURN_IF_ERROR(CheckComplete(tensors, map));
  return map;
}

std::vector<SafetensorsGroup> GroupTensors(const std::vector<ExportTensor>& map, DType dtype) {
  std::vector<SafetensorsGroup> groups;
  std::map<std::string, size_t> index;  // buffers of a layer come after all parameters
  for (const ExportTensor& exported : map) {
    // "layers.12.", or the name of a tensor outside of the layers.
    const size_t dot = exported.source.find('.', sizeof("layers.") - 1);
    const std::string name = exported.source.starts_with("layers.")
                                 ? exported.source.substr(0, dot + 1)
                                 : exported.source;
    const auto [place, is_new] = index.emplace(name, groups.size());
    if (is_new) groups.emplace_back(2);
    const bool routed = absl::StrContains(exported.name, ".experts.");
    groups[place->second][routed ? 1 : 0].push_back(
        {exported.name, exported.wide ? DType::kF32 : dtype, exported.shape});
  }
  return groups;
}

void GatherExported(const ExportTensor& exported, const Tensor& source, int64_t begin,
                    int64_t count, DType dtype, void* out) {
  for (int64_t done = 0; done < count;) {
    // The run of elements up to the end of a block's source part, or of its zeros.
    const int64_t i = begin + done, block = i / exported.block, at = i % exported.block;
    const bool zero = at >= exported.source_block;
    const int64_t n = std::min(count - done, (zero ? exported.block : exported.source_block) - at);
    const int64_t from = exported.offset + block * exported.source_block + at;
    for (int64_t k = 0; k < n; ++k) {
      const float value = zero ? 0.0f
                          : source.dtype() == DType::kF64
                              ? static_cast<float>(source.data<double>()[from + k])
                              : source.data<float>()[from + k];
      if (dtype == DType::kBF16) {
        static_cast<BFloat16*>(out)[done + k] = BFloat16(value);
      } else {
        static_cast<float*>(out)[done + k] = value;
      }
    }
    done += n;
  }
}

bool ScatterExported(const ExportTensor& exported, const char* data, DType from, Tensor* source) {
  bool zeros = true;
  for (int64_t block = 0; block < exported.blocks; ++block) {
    const int64_t first = block * exported.block;
    ForSource(*source, exported.offset + block * exported.source_block, exported.source_block,
              [&](int64_t i, float) { return ElementOf(data, from, first + i); });
    for (int64_t i = exported.source_block; i < exported.block; ++i)
      zeros = zeros && ElementOf(data, from, first + i) == 0;
  }
  return zeros;
}

void RoundLikeExported(const ExportTensor& exported, DType dtype, Tensor* source) {
  ForSource(*source, exported.offset, exported.source_elements(), [&](int64_t, float value) {
    return RoundTo(exported.wide ? DType::kF32 : dtype, value);
  });
}

}  // namespace lacuna
