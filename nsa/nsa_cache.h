// Decode state of an NSA layer for one sequence: full rotated keys and values for the selected
// branch only, a ring of w tokens for the window, the raw unrotated stream of the last l tokens for
// compression, and the compressed rows so far. And a step over such caches for a batch.
#pragma once

#include <memory>
#include <vector>

#include "nn/attention.h"
#include "nn/decode_step.h"
#include "nn/growing_rows.h"
#include "nsa/nsa_config.h"
#include "nsa/nsa_operator.h"

namespace lacuna {

class NsaCache : public AttentionCache {
 public:
  explicit NsaCache(const NsaConfig& config) : config_(config) {}

  int64_t length() const override { return length_; }

  // Takes over a prompt on an empty cache from the operator that processed it. `inputs` are its
  // unrotated inputs.
  void FillFromPrompt(const NsaInputs& inputs, const NsaResult& result);
  // Makes room for one more token, whose rows DecodeNsa sets. `like`: of its row shapes.
  void Grow(const NsaInputs& like);
  // That of nsa/decode_branches.h, kNumCacheColumns of them.
  void AddAddresses(std::vector<int64_t>* addresses);

  // Tokens that the last step read for a KV head: compressed rows + tokens of the selected blocks +
  // window. Waits for the device.
  int64_t tokens_read() const;
  // The lists of the last step [1, G, n].
  const Tensor& blocks() const { return blocks_; }
  void set_blocks(const Tensor& blocks) { blocks_ = blocks; }

 private:
  NsaConfig config_;
  int64_t length_ = 0;
  Tensor blocks_;
  GrowingRows k_slc_, v_slc_, k_cmp_, v_cmp_;
  Tensor k_win_, v_win_;  // [w, G, D] rings, row t mod w
  Tensor k_raw_, v_raw_;  // [l, G, D] rings, row t mod l
};

// The newest token of each of several sequences.
struct NsaStep {
  NsaStep(const NsaConfig& config, const std::vector<NewToken>& tokens, Device device);
  // The same for all layers: made once for a step's `sequences`.
  static std::shared_ptr<const NsaStep> Of(const PackedSequences& sequences,
                                           const NsaConfig& config,
                                           const std::vector<NewToken>& tokens);

  int64_t max_length = 0;
  Tensor tokens;  // [B, 4] i32, core/ops/cache_rows.h
  Tensor
      completed;  // [C, 4] i32: of those whose token completes a compression block; row j is the jth
};

// Takes in the tokens' keys and values, compresses the blocks that they complete, and attends. Rows of
// the inputs, before RoPE and compression -> the same rows of o [N, H, Dv]; blocks [B, G, n] i32, the
// lists of the selected blocks. Caches have grown for the tokens; addresses: of their rows, in the
// order of the tokens. `rope` is prepared for the step. Running it again does the same again.
void DecodeNsa(const NsaInputs& in, const NsaStep& step, const Tensor& addresses,
               const NsaConfig& config, const Phi& phi_k, const Phi& phi_v, const RopeTable& rope,
               Stream stream, Tensor* o, Tensor* blocks);

}  // namespace lacuna
