#include "tests/nsa/golden_case.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

namespace lacuna::test {

GoldenArrays LoadGolden(const std::string& name) {
  const char* source = std::getenv("LACUNA_SOURCE_DIR");
  return ReadNpz(std::string(source == nullptr ? "." : source) + "/tests/nsa/golden/" + name +
                 ".npz");
}

NsaCase GoldenCase(const GoldenArrays& arrays, DType dtype) {
  const auto json = nlohmann::json::parse(arrays.at("config").text);
  NsaCase c;
  c.config = {
      .block = json["block"],
      .stride = json["stride"],
      .select_block = json["sel_block"],
      .num_selected = json["num_selected"],
      .num_init = json["num_init"],
      .num_local = json["num_local"],
      .window = json["window"],
      .phi = json["compression"] == "mlp"      ? PhiKind::kMlp
             : json["compression"] == "linear" ? PhiKind::kLinear
                                               : PhiKind::kMean,
      .phi_hidden = 2,
      .activation = json["activation"] == "silu" ? PhiActivation::kSilu : PhiActivation::kGeluTanh};
  c.rope = {.rotary_dims = json["rotary"],
            .theta = json["theta"],
            .yarn_factor = json["yarn_factor"],
            .yarn_original_length = json["yarn_original"],
            .yarn_beta_fast = json["beta_fast"],
            .yarn_beta_slow = json["beta_slow"]};
  for (const char* name : kNsaInputNames) {
    const auto& array = arrays.at(std::string("in_") + name);
    c.in[name] = array.ToTensor(std::string(name) == "gate" ? AccumulationType(dtype) : dtype);
  }
  if (arrays.count("cu_seqlens")) c.cu_seqlens = arrays.at("cu_seqlens").Ints();
  if (arrays.count("do")) c.d_o = arrays.at("do").ToTensor(dtype);
  return c;
}

void FillPhi(const GoldenArrays& arrays, const std::string& prefix, DType dtype,
             PhiWithStorage* phi) {
  for (Parameter* p : phi->parameters()) {
    const auto& array = arrays.at(prefix + "." + p->name.substr(4));
    LACUNA_CHECK(array.shape == p->shape, "{}: {} in the file, {} here", p->name,
                 ToString(array.shape), ToString(p->shape));
    p->value = array.ToTensor(dtype);
  }
}

}  // namespace lacuna::test
