#include "tests/nsa/nsa_case.h"

#include <algorithm>
#include <numeric>

#include "core/stream.h"
#include "nsa/decode_branches.h"
#include "tests/support/gradcheck.h"
#include "tests/support/random.h"

namespace lacuna::test {

int64_t NsaCase::longest() const {
  int64_t longest = 1;
  for (size_t i = 1; i < cu_seqlens.size(); ++i)
    longest = std::max<int64_t>(longest, cu_seqlens[i] - cu_seqlens[i - 1]);
  return longest;
}

NsaCase NsaCase::To(Device device) const {
  NsaCase there = *this;
  for (auto& [name, tensor] : there.in) tensor = tensor.To(device);
  if (d_o.defined()) there.d_o = d_o.To(device);
  return there;
}

PhiWithStorage::PhiWithStorage(int64_t width, const NsaConfig& config, DType dtype, uint64_t seed,
                               double scale)
    : phi_(width, config) {
  phi_.SetName("phi");
  phi_.ForEachParameter([&](Parameter& p) {
    const double fan = p.shape[1] > config.block * width / 2 || p.name != "phi.pos"
                           ? static_cast<double>(p.shape[1])
                           : 1.0;
    p.value = RandomTensor(p.shape, dtype, ++seed, scale / std::sqrt(fan));
    p.grad = Tensor::Zeros(p.shape, AccumulationType(dtype));
  });
}

Parameter& PhiWithStorage::parameter(const std::string& name) {
  for (Parameter* p : parameters()) {
    if (p->name == "phi." + name) return *p;
  }
  LACUNA_CHECK(false, "phi has no parameter {}", name);
  std::abort();
}

std::vector<Parameter*> PhiWithStorage::parameters() {
  return ParametersOf(phi_);
}

void PhiWithStorage::MoveTo(Device device) {
  for (Parameter* p : parameters()) {
    p->value = p->value.To(device);
    p->grad = p->grad.To(device);
  }
}

NsaCase RandomNsaCase(const NsaConfig& config, const std::vector<int32_t>& lengths, int64_t heads,
                      int64_t groups, int64_t dk, int64_t dv, DType dtype, uint64_t seed) {
  NsaCase c;
  c.config = config;
  c.rope = {.rotary_dims = 4, .theta = 100.0};
  c.cu_seqlens = {0};
  for (const int32_t length : lengths) c.cu_seqlens.push_back(c.cu_seqlens.back() + length);
  const int64_t n = c.cu_seqlens.back();
  c.in["q"] = RandomTensor({n, heads, dk}, dtype, ++seed);
  for (const char* branch : {"cmp", "slc", "win"}) {
    c.in[std::string("k_") + branch] = RandomTensor({n, groups, dk}, dtype, ++seed);
    c.in[std::string("v_") + branch] = RandomTensor({n, groups, dv}, dtype, ++seed);
  }
  std::vector<double> gate = RandomTensor({n, heads, 3}, DType::kF64, ++seed).ToDoubles();
  for (double& g : gate) g = 1 / (1 + std::exp(-g));
  c.in["gate"] = Tensor::FromDoubles(gate, {n, heads, 3}, AccumulationType(dtype));
  c.d_o = RandomTensor({n, heads, dv}, dtype, ++seed);
  return c;
}

NsaInputs MakeInputs(const std::map<std::string, Variable>& v) {
  return {v.at("q"),     v.at("k_cmp"), v.at("v_cmp"), v.at("k_slc"),
          v.at("v_slc"), v.at("k_win"), v.at("v_win"), v.at("gate")};
}

NsaRun RunNsa(const NsaCase& c, Phi& phi_k, Phi& phi_v, const NsaOptions& options) {
  const PackedSequences sequences = PackedSequences(c.cu_seqlens).To(c.device());
  const auto grid = std::make_shared<const NsaGrid>(sequences, c.config);
  RopeTable rope(c.rope, c.in.at("q").dtype(), c.device());
  rope.Prepare(c.longest());
  Tape tape(Tape::Mode::kRecord, ComputeStream(c.device()));
  std::map<std::string, Variable> leaves;
  for (const auto& [name, tensor] : c.in) leaves[name] = tape.Leaf(tensor);
  NsaRun run;
  run.result = NsaOperator(tape, MakeInputs(leaves), phi_k, phi_v, grid, rope, c.config, options);
  tape.Backward({{run.result.o, c.d_o}});
  for (const auto& [name, leaf] : leaves) run.gradients[name] = tape.Grad(leaf);
  return run;
}

DecodeResult DecodeTogether(const std::vector<NsaCache*>& caches, const NsaInputs& in,
                            const NsaConfig& config, Phi& phi_k, Phi& phi_v,
                            const RopeTable& rope) {
  const auto batch = static_cast<int64_t>(caches.size());
  const Device device = in.q.value().device();
  std::vector<NewToken> tokens;
  std::vector<int64_t> addresses;
  for (int64_t i = 0; i < batch; ++i) {
    NsaCache& cache = *caches[static_cast<size_t>(i)];
    cache.Grow(in);
    cache.AddAddresses(&addresses);
    tokens.push_back({i, cache.length()});
  }
  AddressTable table;
  DecodeResult result{
      .o = Tensor::Empty({batch, in.q.dim(1), in.v_slc.dim(2)}, in.q.dtype(), device),
      .blocks = Tensor::Empty({batch, in.k_slc.dim(1), config.num_selected}, DType::kI32, device)};
  DecodeNsa(in, NsaStep(config, tokens, device), table.Update(addresses, kNumCacheColumns, device),
            config, phi_k, phi_v, rope, ComputeStream(device), &result.o, &result.blocks);
  for (int64_t i = 0; i < batch; ++i)
    caches[static_cast<size_t>(i)]->set_blocks(result.blocks.Slice(i, i + 1));
  return result;
}

}  // namespace lacuna::test
