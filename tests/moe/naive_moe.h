// A mixture of experts in obvious loops, token by token; shares no code with the product. T is the
// arithmetic (double, or float for the error that f32 and bf16 models may have); `round` is what
// storing a value does to it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace lacuna::test {

struct NaiveMoe {
  int64_t rows, width, experts, chosen, hidden;
  int64_t shared_hidden = 0;
  bool softmax = false, normalize = true;
  double scale = 1;
  std::vector<double> x, gate, bias;                // [N, C], [E, C], [E] or empty
  std::vector<double> gate_up, down;                // [E, 2F, C], [E, C, F]
  std::vector<double> shared_gate_up, shared_down;  // [2 Fs, C], [C, Fs]
};

struct NaiveGradients {
  std::vector<double> x, gate, gate_up, down, shared_gate_up, shared_down;
};

struct NaiveResult {
  std::vector<double> y;
  std::vector<int> ids;         // [N, K]
  std::vector<double> weights;  // [N, K]
  double margin = 1e30;         // smallest distance between a chosen and an unchosen value
  NaiveGradients d;
};

// y and the gradients of sum(dy * y). T: double or float.
template <class T>
NaiveResult RunNaive(const NaiveMoe& m, const std::vector<double>& dy,
                     const std::function<double(double)>& round);

// coef * E * mean over the samples of sum_e f_e P_e with given shares f [S, E], plus z_coef *
// mean(lse^2).
double NaiveAuxiliaryLoss(const NaiveMoe& m, const std::vector<double>& shares, double coef,
                          double z_coef);

}  // namespace lacuna::test
