// Naive NSA in obvious loops on doubles, forward and backward. It shares no code with the product.
// `round` is applied to every tensor that an implementation would store: identity gives the exact
// result, rounding to a dtype the naive run in that dtype. A mutation makes one classic mistake on
// purpose, to prove that the tests would see it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace lacuna::test {

enum class Mutation {
  kNone,
  kWindowPlusOne,         // w + 1 keys in the window
  kScoresShifted,         // eq. 9 of the paper read with 0-based indices: - m - k
  kScoresUnscaled,        // block scores from softmax(q k) without the scale
  kScoresMeanOfLogits,    // mean over heads of logits instead of the sum of probabilities
  kOneLocalBlock,         // num_local 1
  kGridIgnoresDocuments,  // block grids at the packed index instead of the document's
  // (T - l) / d + 1 with C's division for l - d < T < l: one block that does not exist
  kCompressIncomplete,
  kYarnOnSoftmaxScale,  // YaRN's factor squared on the softmax scale of all dims
};

struct NaiveNsaProblem {
  int64_t block, stride, select_block, num_selected, num_init, num_local, window;
  int64_t heads, groups, dk, dv;
  int64_t rotary;
  double theta, yarn_factor = 1, yarn_original = 8192, beta_fast = 32, beta_slow = 1;
  std::vector<int32_t> cu_seqlens;
  // q [N, H, Dk], k_cmp ... [N, G, D], gate [N, H, 3]; phi: silu MLP "k.pos", "k.w1", "k.w2",
  // "v.pos", ...; row-major
  std::map<std::string, std::vector<double>> in;
};

struct NaiveNsaResult {
  std::vector<double> o;                                  // [N, H, Dv]
  std::map<std::string, std::vector<double>> branch;      // "cmp", "slc", "win": [N, H, Dv]
  std::vector<std::vector<std::vector<int64_t>>> blocks;  // [N][G] ascending
  bool left_out = false;                                  // some query left a block out
};

using Rounding = std::function<double(double)>;

NaiveNsaResult NaiveNsaForward(
    const NaiveNsaProblem& p, Mutation mutation = Mutation::kNone, const Rounding& round = {},
    const std::vector<std::vector<std::vector<int64_t>>>* forced = nullptr);
// Gradients of all inputs (phi's included) for d_o [N, H, Dv] on the given block lists.
std::map<std::string, std::vector<double>> NaiveNsaBackward(
    const NaiveNsaProblem& p, const std::vector<double>& d_o,
    const std::vector<std::vector<std::vector<int64_t>>>& blocks, const Rounding& round = {});

}  // namespace lacuna::test
