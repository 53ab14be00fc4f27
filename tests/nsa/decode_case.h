// Several sequences that are decoded together, token by token, behind prompts.
#pragma once

#include <memory>
#include <vector>

#include "tests/nsa/nsa_case.h"

namespace lacuna::test {

class DecodeCase {
 public:
  // The documents of `c` as sequences; the first prompts[i] tokens of each go in at once. On the
  // device of `c`, where phi is, too.
  DecodeCase(const NsaCase& c, const std::vector<int64_t>& prompts, PhiWithStorage* phi_k,
             PhiWithStorage* phi_v);

  int64_t num_sequences() const { return static_cast<int64_t>(caches_.size()); }
  int64_t length(int64_t i) const { return caches_[static_cast<size_t>(i)]->length(); }
  bool ended(int64_t i) const;
  NsaCache& cache(int64_t i) { return *caches_[static_cast<size_t>(i)]; }
  // The operator on all of document i.
  NsaResult Forward(int64_t i) { return ForwardOf(i, EndOf(i)); }
  // The next token of each of these sequences.
  DecodeResult Step(const std::vector<int64_t>& sequences);

 private:
  int64_t EndOf(int64_t i) const;
  NsaInputs Rows(int64_t i, int64_t begin, int64_t end) const;
  NsaResult ForwardOf(int64_t i, int64_t tokens);

  NsaCase c_;
  PhiWithStorage *phi_k_, *phi_v_;
  RopeTable rope_;
  std::vector<std::unique_ptr<NsaCache>> caches_;
};

// Decodes until all sequences have ended, those left together, and compares each token's lists and
// output with the forward pass of its sequence.
void ExpectDecodeEqualsForward(DecodeCase* decode, double tolerance);

}  // namespace lacuna::test
