// phi: compresses a block of l keys (or values) to one; one per layer for keys (D = Dk) and one for
// values (D = Dv), shared by the groups. NSA (arXiv 2502.11089), section 3.3.1.
//   mlp     y = w2 act(w1 vec(block + pos))      pos [l, D]   w1 [h D, l D]   w2 [D, h D]
//   linear  y = w vec(block + pos)               pos [l, D]   w [D, l D]
//   mean    y = mean of the block's tokens       no parameters
// vec is token-major, no biases.
//
// mean_start (with parameters): phi begins as sqrt(l) times the block's mean, which keeps the variance
// of unlike tokens: w holds l unit matrices / sqrt(l); w1 these and, where the hidden width has room
// (h >= 2), their negatives below, which w2 = [I, -I] subtracts, since act(z) - act(-z) = z for SiLU
// and GELU. Queries then meet compressed keys in the space of the keys from the first step on; from
// random matrices, scores of blocks say nothing about what is in them until phi has learned each place
// of a token in a block by itself. docs/benchmarks.md has what is gained and lost.
#pragma once

#include <memory>

#include "autograd/tape.h"
#include "nn/module.h"
#include "nsa/nsa_config.h"
#include "nsa/nsa_grid.h"

namespace lacuna {

class Phi : public Module {
 public:
  Phi(int64_t width, const NsaConfig& config, bool mean_start = false);

  // x [N, G, D], not rotated -> [Tc, G, D], the compressed rows of all documents, in one product a
  // matrix. The products are batch-invariant (core/ops/matmul.h): a document has the bits it would
  // have unpacked. Parameter gradients are delivered (as zeros) even where Tc = 0.
  Variable Compress(Tape& tape, const Variable& x, const std::shared_ptr<const NsaGrid>& grid);
  // Blocks of different sequences side by side: x [n l, G, D] -> [n, G, D]. No gradients.
  Tensor CompressApart(const Tensor& x, Stream stream) const;

 private:
  // What the matrices' part of a call leaves for the backward pass.
  struct Products {
    Tensor blocks;             // [rows G, l D]
    Tensor hidden_in, hidden;  // of the MLP: [rows G, h D]
  };
  // y [rows, G, D] of the blocks that begin every `stride` tokens of x, or at cmp_tokens.
  Products Multiply(const Tensor& x, const Tensor& cmp_tokens, int64_t stride, Tensor y,
                    Stream stream) const;

  NsaConfig config_;
  Parameter* pos_ = nullptr;
  Parameter* w1_ = nullptr;  // of `linear`: w
  Parameter* w2_ = nullptr;
};

}  // namespace lacuna
