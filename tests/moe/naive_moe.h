// A mixture of experts in obvious loops, token by token; shares no code with the product. T is the
// arithmetic (double, or float for the error that f32 and bf16 models may have); `round` is what
// storing a value does to it.
#pragma once

#include <cmath>
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

template <class T>
std::vector<T> NaiveScores(const NaiveMoe& m, int64_t n, std::vector<T>* logits_out = nullptr) {
  std::vector<T> logits, scores;
  T sum = 0;
  for (int64_t e = 0; e < m.experts; ++e) {
    T logit = 0;
    for (int64_t c = 0; c < m.width; ++c)
      logit += T(m.x[n * m.width + c]) * T(m.gate[e * m.width + c]);
    logits.push_back(logit);
    sum += std::exp(logit);
  }
  for (const T logit : logits)
    scores.push_back(m.softmax ? std::exp(logit) / sum : T(1) / (T(1) + std::exp(-logit)));
  if (logits_out != nullptr) *logits_out = logits;
  return scores;
}

// One SwiGLU network on a row: adds factor * network(row) into y, and with dy given the gradients
// of <dy, factor * network(row)>.
template <class T>
struct NaiveFfn {
  const NaiveMoe& m;
  const double *gate_up, *down;
  double *dgate_up, *ddown;
  int64_t hidden;
  const std::function<double(double)>& round;

  std::vector<T> Forward(int64_t n, std::vector<T>* a_out, std::vector<T>* h_out) const {
    std::vector<T> a(2 * hidden), h(hidden), y(m.width);
    for (int64_t f = 0; f < 2 * hidden; ++f) {
      T sum = 0;
      for (int64_t c = 0; c < m.width; ++c)
        sum += T(gate_up[f * m.width + c]) * T(m.x[n * m.width + c]);
      a[f] = T(round(sum));
    }
    for (int64_t f = 0; f < hidden; ++f)
      h[f] = T(round(a[f] / (T(1) + std::exp(-a[f])) * a[hidden + f]));
    for (int64_t c = 0; c < m.width; ++c) {
      T sum = 0;
      for (int64_t f = 0; f < hidden; ++f) sum += T(down[c * hidden + f]) * h[f];
      y[c] = T(round(sum));
    }
    *a_out = a;
    *h_out = h;
    return y;
  }

  // dout: gradient of the network's output. Returns that of its input row.
  std::vector<T> Backward(int64_t n, const std::vector<T>& a, const std::vector<T>& h,
                          const std::vector<T>& dout) const {
    std::vector<T> da(2 * hidden), dx(m.width);
    for (int64_t c = 0; c < m.width; ++c) {
      for (int64_t f = 0; f < hidden; ++f)
        ddown[c * hidden + f] = double(T(ddown[c * hidden + f]) + dout[c] * h[f]);
    }
    for (int64_t f = 0; f < hidden; ++f) {
      T dh = 0;
      for (int64_t c = 0; c < m.width; ++c) dh += T(down[c * hidden + f]) * dout[c];
      dh = T(round(dh));
      const T s = T(1) / (T(1) + std::exp(-a[f]));
      da[f] = T(round(dh * a[hidden + f] * (s + a[f] * s * (T(1) - s))));
      da[hidden + f] = T(round(dh * a[f] * s));
    }
    for (int64_t f = 0; f < 2 * hidden; ++f) {
      for (int64_t c = 0; c < m.width; ++c) {
        dgate_up[f * m.width + c] =
            double(T(dgate_up[f * m.width + c]) + da[f] * T(m.x[n * m.width + c]));
      }
    }
    for (int64_t c = 0; c < m.width; ++c) {
      T sum = 0;
      for (int64_t f = 0; f < 2 * hidden; ++f) sum += T(gate_up[f * m.width + c]) * da[f];
      dx[c] = T(round(sum));
    }
    return dx;
  }
};

// y and the gradients of sum(dy * y).
template <class T>
NaiveResult RunNaive(const NaiveMoe& m, const std::vector<double>& dy,
                     const std::function<double(double)>& round) {
  const int64_t C = m.width, E = m.experts, K = m.chosen, F = m.hidden;
  NaiveResult r;
  r.y.resize(m.rows * C);
  r.d = {std::vector<double>(m.x.size()),
         std::vector<double>(m.gate.size()),
         std::vector<double>(m.gate_up.size()),
         std::vector<double>(m.down.size()),
         std::vector<double>(m.shared_gate_up.size()),
         std::vector<double>(m.shared_down.size())};
  for (int64_t n = 0; n < m.rows; ++n) {
    const std::vector<T> scores = NaiveScores<T>(m, n);
    std::vector<int> ids;
    const auto value = [&](int e) {
      return double(scores[e]) + (m.bias.empty() ? 0.0 : m.bias[e]);
    };
    std::vector<bool> taken(E, false);
    for (int64_t k = 0; k < K; ++k) {
      int best = -1;
      for (int e = 0; e < E; ++e) {
        if (!taken[e] && (best < 0 || value(e) > value(best))) best = e;
      }
      taken[best] = true;
      ids.push_back(best);
    }
    for (int e = 0; e < E; ++e) {
      if (!taken[e]) r.margin = std::min(r.margin, value(ids.back()) - value(e));
    }
    T total = 0;
    for (const int e : ids) total += scores[e];
    std::vector<T> weights, dweights;
    for (const int e : ids)
      weights.push_back(T(m.scale) * (m.normalize ? scores[e] / total : scores[e]));

    std::vector<T> row_dy(C), y(C), dx(C);
    for (int64_t c = 0; c < C; ++c) row_dy[c] = T(dy[n * C + c]);
    for (int64_t k = 0; k < K; ++k) {
      const int64_t e = ids[k];
      const int64_t at = e * C * F;
      const NaiveFfn<T> expert{
          m, &m.gate_up[2 * at], &m.down[at], &r.d.gate_up[2 * at], &r.d.down[at], F, round};
      std::vector<T> a, h, dout(C);
      const std::vector<T> out = expert.Forward(n, &a, &h);
      T dw = 0;
      for (int64_t c = 0; c < C; ++c) {
        y[c] += weights[k] * out[c];
        dw += row_dy[c] * out[c];
        dout[c] = T(round(weights[k] * row_dy[c]));
      }
      dweights.push_back(dw);
      const std::vector<T> dx_k = expert.Backward(n, a, h, dout);
      for (int64_t c = 0; c < C; ++c) dx[c] += dx_k[c];
    }
    for (int64_t c = 0; c < C; ++c) {
      y[c] = T(round(y[c]));
      dx[c] = T(round(dx[c]));
    }
    if (m.shared_hidden > 0) {
      const NaiveFfn<T> shared{m,
                               m.shared_gate_up.data(),
                               m.shared_down.data(),
                               r.d.shared_gate_up.data(),
                               r.d.shared_down.data(),
                               m.shared_hidden,
                               round};
      std::vector<T> a, h;
      const std::vector<T> out = shared.Forward(n, &a, &h),
                           dx_shared = shared.Backward(n, a, h, row_dy);
      for (int64_t c = 0; c < C; ++c) {
        y[c] = T(round(y[c] + out[c]));
        dx[c] = T(round(dx[c] + dx_shared[c]));
      }
    }
    // Weights -> scores -> logits, by the full Jacobians.
    std::vector<T> ds(E), dlogit(E);
    for (int64_t j = 0; j < K; ++j) {
      for (int64_t k = 0; k < K; ++k) {
        const T own = j == k ? T(1) : T(0);
        ds[ids[j]] += T(m.scale) * dweights[k] *
                      (m.normalize ? own / total - scores[ids[k]] / (total * total) : own);
      }
    }
    for (int64_t i = 0; i < E; ++i) {
      for (int64_t e = 0; e < E; ++e) {
        const T own = i == e ? T(1) : T(0);
        dlogit[i] += ds[e] * (m.softmax ? scores[e] * (own - scores[i])
                                        : own * scores[e] * (T(1) - scores[e]));
      }
    }
    for (int64_t c = 0; c < C; ++c) {
      T from_gate = 0;
      for (int64_t e = 0; e < E; ++e) {
        from_gate += dlogit[e] * T(m.gate[e * C + c]);
        r.d.gate[e * C + c] = double(T(r.d.gate[e * C + c]) + dlogit[e] * T(m.x[n * C + c]));
      }
      r.d.x[n * C + c] = round(dx[c] + T(round(from_gate)));
      r.y[n * C + c] = double(y[c]);
    }
    for (int64_t k = 0; k < K; ++k) r.weights.push_back(double(weights[k]));
    r.ids.insert(r.ids.end(), ids.begin(), ids.end());
  }
  return r;
}

// coef * E * mean over the samples of sum_e f_e P_e with given shares f [S, E], plus z_coef *
// mean(lse^2).
inline double NaiveAuxiliaryLoss(const NaiveMoe& m, const std::vector<double>& shares, double coef,
                                 double z_coef) {
  const int64_t samples = static_cast<int64_t>(shares.size()) / m.experts;
  double balance = 0, z = 0;
  for (int64_t n = 0; n < m.rows; ++n) {
    std::vector<double> logits;
    const std::vector<double> scores = NaiveScores<double>(m, n, &logits);
    double sum = 0, exponentials = 0;
    for (const double s : scores) sum += s;
    for (const double l : logits) exponentials += std::exp(l);
    const int64_t sample = n * samples / m.rows;
    for (int64_t e = 0; e < m.experts; ++e)
      balance += shares[sample * m.experts + e] * scores[e] / sum / double(m.rows);
    z += std::log(exponentials) * std::log(exponentials) / double(m.rows);
  }
  return coef * double(m.experts) * balance + z_coef * z;
}

}  // namespace lacuna::test
