// A problem for the NSA operator, from a golden file or at random, and the operator run on it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nsa/nsa_cache.h"
#include "nsa/nsa_operator.h"

namespace lacuna::test {

struct NsaCase {
  NsaConfig config;
  RopeSpec rope;
  std::vector<int32_t> cu_seqlens;
  std::map<std::string, Tensor> in;  // q, k_cmp, ..., gate
  Tensor d_o;

  int64_t longest() const;
  Device device() const { return in.at("q").device(); }
  NsaCase To(Device device) const;
};

// Names of the operator's inputs, in the order of NsaInputs.
inline constexpr const char* kNsaInputNames[] = {"q",     "k_cmp", "v_cmp", "k_slc",
                                                 "v_slc", "k_win", "v_win", "gate"};

// phi with its own storage for values and gradients.
class PhiWithStorage {
 public:
  PhiWithStorage(int64_t width, const NsaConfig& config, DType dtype, uint64_t seed,
                 double scale = 1.0);
  Phi& phi() { return phi_; }
  Parameter& parameter(const std::string& name);
  std::vector<Parameter*> parameters();
  void MoveTo(Device device);

 private:
  Phi phi_;
};

NsaCase RandomNsaCase(const NsaConfig& config, const std::vector<int32_t>& lengths, int64_t heads,
                      int64_t groups, int64_t dk, int64_t dv, DType dtype, uint64_t seed);

struct NsaRun {
  NsaResult result;
  std::map<std::string, Tensor> gradients;  // of every input
};
// Forward and backward with the case's d_o, on the case's device; phi's parameters must be there.
NsaRun RunNsa(const NsaCase& c, Phi& phi_k, Phi& phi_v, const NsaOptions& options = {});
NsaInputs MakeInputs(const std::map<std::string, Variable>& variables);

struct DecodeResult {
  Tensor o;       // [B, H, Dv]
  Tensor blocks;  // [B, G, n]
};
// A step of these caches together; row i of the inputs, before RoPE, is the token of caches[i].
DecodeResult DecodeTogether(const std::vector<NsaCache*>& caches, const NsaInputs& in,
                            const NsaConfig& config, Phi& phi_k, Phi& phi_v, const RopeTable& rope);

}  // namespace lacuna::test
