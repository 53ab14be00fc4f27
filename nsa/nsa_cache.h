// Decode state of an NSA layer for one sequence: full rotated keys and values for the selected
// branch only, a ring of w tokens for the window, the raw unrotated stream of the last l tokens for
// compression, and the compressed rows so far.
#pragma once

#include "autograd/functions/attention.h"
#include "nn/attention.h"
#include "nn/growing_rows.h"
#include "nsa/nsa_config.h"
#include "nsa/nsa_operator.h"

namespace lacuna {

// What a step reads that depends on the sequence's length alone: the same for all layers, and all
// sequences of this length, so that it goes to a device once.
struct NsaStep {
  // Of the token with which a sequence has `length` tokens.
  NsaStep(const NsaConfig& config, int64_t length, Device device);

  int64_t length, compressed, in_window;
  Tensor position;           // [1] i32, length - 1
  AttentionRanges cmp, win;  // one query that sees all rows
  Tensor cu_slc;             // [2] i32: 0, length
};

class NsaCache : public AttentionCache {
 public:
  explicit NsaCache(const NsaConfig& config);

  int64_t length() const override { return length_; }

  // Takes over a prompt on an empty cache from the operator that processed it. `inputs` are its
  // unrotated inputs.
  void FillFromPrompt(const NsaInputs& inputs, const NsaResult& result);
  // One token: inputs of one row before RoPE -> o [1, H, Dv]. `rope` must be prepared for the new
  // length. The lists of the selected blocks [1, G, n] go to `blocks` if it is not null.
  Tensor Step(const NsaInputs& token, Phi& phi_k, Phi& phi_v, const RopeTable& rope, Stream stream,
              Tensor* blocks = nullptr) {
    Append(token, phi_k, phi_v, rope, stream);
    return Attend(token, rope, stream, blocks);
  }
  // The two halves of a step: taking in the token's keys and values, and attending with its query.
  // Attend of different caches may run in several threads at once. `step` is made if it is not
  // given.
  void Append(const NsaInputs& token, Phi& phi_k, Phi& phi_v, const RopeTable& rope, Stream stream,
              std::shared_ptr<const NsaStep> step = nullptr);
  Tensor Attend(const NsaInputs& token, const RopeTable& rope, Stream stream,
                Tensor* blocks = nullptr);

  // Tokens that the last Attend read for a KV head: compressed rows + tokens of the selected blocks +
  // window. Waits for the device.
  int64_t tokens_read() const;

 private:
  // Appends the compressed row of the block that this token completes, if it does.
  void CompleteBlock(Tape& tape, Phi& phi_k, Phi& phi_v, const RopeTable& rope);

  NsaConfig config_;
  std::shared_ptr<const NsaGrid> block_grid_;  // of one compression block
  int64_t length_ = 0;
  std::shared_ptr<const NsaStep> step_;  // the last one
  Tensor blocks_;                        // that it selected
  GrowingRows k_slc_, v_slc_, k_cmp_, v_cmp_;
  Tensor k_win_, v_win_;  // [w, G, D] rings, row t mod w
  Tensor k_raw_, v_raw_;  // [l, G, D] rings, row t mod l
};

}  // namespace lacuna
