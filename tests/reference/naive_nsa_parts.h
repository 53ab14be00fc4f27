// What the forward and the backward pass of naive NSA share: the documents of a packed batch, RoPE,
// phi, who sees what, scores and selection, softmax attention of one query.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/reference/naive_nsa.h"

namespace lacuna::test {

using Values = std::vector<double>;
using Lists = std::vector<std::vector<std::vector<int64_t>>>;

inline size_t Z(int64_t i) {
  return static_cast<size_t>(i);
}

struct Cmp {
  int64_t first, last, document;  // token rows of a compressed block
};

struct Naive {
  const NaiveNsaProblem& p;
  Mutation mutation;
  Rounding round;
  int64_t n = p.cu_seqlens.back();
  std::vector<int64_t> start, position, document;  // of every row
  std::vector<Cmp> compressed;
  double scale, rope_factor = 1;
  Values frequencies;

  Naive(const NaiveNsaProblem& problem, Mutation m, const Rounding& r);

  // Rotates rows of `heads` heads of width dk to positions; sign -1 for the transposed matrix.
  Values Rope(const Values& x, int64_t heads, const std::vector<int64_t>& positions,
              double sign) const;
  std::vector<int64_t> CmpPositions() const;
  // phi of every compressed block and group; the two layers' inputs go to `flat_out` and
  // `hidden_out` if asked for.
  Values Phi(const std::string& which, const Values& x, int64_t width, Values* flat_out = nullptr,
             Values* hidden_out = nullptr) const;

  // Rows of k that query t sees: compressed blocks, the window, the tokens of selected blocks.
  std::vector<int64_t> VisibleCmp(int64_t t) const;
  std::vector<int64_t> WindowRows(int64_t t) const;
  std::vector<int64_t> BlockRows(int64_t t, const std::vector<int64_t>& blocks) const;

  // Score of block j: a compressed block counts for each of its d-token pieces that lies in the
  // block.
  Values Scores(const Values& q, const Values& k_cmp, int64_t t, int64_t g) const;
  std::vector<int64_t> Select(const Values& scores) const;

  // Of query t and head h over `rows`.
  Values Probabilities(const Values& q, int64_t t, int64_t h, const Values& k,
                       const std::vector<int64_t>& rows, double factor) const;
  // Sets the row of query t, all heads.
  void Attend(const Values& q, const Values& k, const Values& v, int64_t t,
              const std::vector<int64_t>& rows, Values* o) const;

 private:
  void SetFrequencies();
  // Where a document's block grid begins.
  int64_t Origin(int64_t t) const;
  double Dot(const Values& q, int64_t t, int64_t h, const Values& k, int64_t row) const;
};

}  // namespace lacuna::test
