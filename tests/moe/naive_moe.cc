#include "tests/moe/naive_moe.h"

#include <algorithm>
#include <cmath>

namespace lacuna::test {
namespace {

template <class T>
std::vector<T> Scores(const NaiveMoe& m, int64_t n, std::vector<T>* logits_out = nullptr) {
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
struct Ffn {
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

// Where the router sends a row.
template <class T>
struct Routing {
  std::vector<T> scores;   // [E]
  std::vector<int> ids;    // [K]
  std::vector<T> weights;  // [K]
  T total = 0;             // of the chosen scores
  double margin = 1e30;
};

template <class T>
Routing<T> Route(const NaiveMoe& m, int64_t n) {
  Routing<T> r;
  r.scores = Scores<T>(m, n);
  const auto value = [&](int e) {
    return double(r.scores[e]) + (m.bias.empty() ? 0.0 : m.bias[e]);
  };
  std::vector<bool> taken(m.experts, false);
  for (int64_t k = 0; k < m.chosen; ++k) {
    int best = -1;
    for (int e = 0; e < m.experts; ++e) {
      if (!taken[e] && (best < 0 || value(e) > value(best))) best = e;
    }
    taken[best] = true;
    r.ids.push_back(best);
  }
  for (int e = 0; e < m.experts; ++e) {
    if (!taken[e]) r.margin = std::min(r.margin, value(r.ids.back()) - value(e));
  }
  for (const int e : r.ids) r.total += r.scores[e];
  for (const int e : r.ids)
    r.weights.push_back(T(m.scale) * (m.normalize ? r.scores[e] / r.total : r.scores[e]));
  return r;
}

// Weights -> scores -> logits, by the full Jacobians.
template <class T>
std::vector<T> LogitGradients(const NaiveMoe& m, const Routing<T>& r,
                              const std::vector<T>& dweights) {
  std::vector<T> ds(m.experts), dlogit(m.experts);
  for (int64_t j = 0; j < m.chosen; ++j) {
    for (int64_t k = 0; k < m.chosen; ++k) {
      const T own = j == k ? T(1) : T(0);
      ds[r.ids[j]] +=
          T(m.scale) * dweights[k] *
          (m.normalize ? own / r.total - r.scores[r.ids[k]] / (r.total * r.total) : own);
    }
  }
  for (int64_t i = 0; i < m.experts; ++i) {
    for (int64_t e = 0; e < m.experts; ++e) {
      const T own = i == e ? T(1) : T(0);
      dlogit[i] += ds[e] * (m.softmax ? r.scores[e] * (own - r.scores[i])
                                      : own * r.scores[e] * (T(1) - r.scores[e]));
    }
  }
  return dlogit;
}

// One row through its experts and the shared one; the networks' own gradients are added to `d`.
template <class T>
struct Mixed {
  std::vector<T> y, dx;     // [C]
  std::vector<T> dweights;  // [K]
};

template <class T>
Mixed<T> Mix(const NaiveMoe& m, int64_t n, const Routing<T>& r, const std::vector<T>& dy,
             const std::function<double(double)>& round, NaiveGradients* d) {
  const int64_t C = m.width, F = m.hidden;
  Mixed<T> out{std::vector<T>(C), std::vector<T>(C), {}};
  std::vector<T> a, h;
  for (int64_t k = 0; k < m.chosen; ++k) {
    const int64_t at = r.ids[k] * C * F;
    const Ffn<T> expert{m,    &m.gate_up[2 * at], &m.down[at], &d->gate_up[2 * at], &d->down[at], F,
                        round};
    std::vector<T> dout(C);
    const std::vector<T> y = expert.Forward(n, &a, &h);
    T dw = 0;
    for (int64_t c = 0; c < C; ++c) {
      out.y[c] += r.weights[k] * y[c];
      dw += dy[c] * y[c];
      dout[c] = T(round(r.weights[k] * dy[c]));
    }
    out.dweights.push_back(dw);
    const std::vector<T> dx = expert.Backward(n, a, h, dout);
    for (int64_t c = 0; c < C; ++c) out.dx[c] += dx[c];
  }
  for (std::vector<T>* values : {&out.y, &out.dx}) {
    for (T& value : *values) value = T(round(value));
  }
  if (m.shared_hidden == 0) return out;
  const Ffn<T> shared{m,
                      m.shared_gate_up.data(),
                      m.shared_down.data(),
                      d->shared_gate_up.data(),
                      d->shared_down.data(),
                      m.shared_hidden,
                      round};
  const std::vector<T> y = shared.Forward(n, &a, &h), dx = shared.Backward(n, a, h, dy);
  for (int64_t c = 0; c < C; ++c) {
    out.y[c] = T(round(out.y[c] + y[c]));
    out.dx[c] = T(round(out.dx[c] + dx[c]));
  }
  return out;
}

}  // namespace

template <class T>
NaiveResult RunNaive(const NaiveMoe& m, const std::vector<double>& dy,
                     const std::function<double(double)>& round) {
  const int64_t C = m.width;
  NaiveResult result;
  result.y.resize(m.rows * C);
  NaiveGradients& d = result.d;
  d = {std::vector<double>(m.x.size()),
       std::vector<double>(m.gate.size()),
       std::vector<double>(m.gate_up.size()),
       std::vector<double>(m.down.size()),
       std::vector<double>(m.shared_gate_up.size()),
       std::vector<double>(m.shared_down.size())};
  for (int64_t n = 0; n < m.rows; ++n) {
    const Routing<T> routing = Route<T>(m, n);
    const std::vector<T> row_dy(dy.begin() + n * C, dy.begin() + (n + 1) * C);
    const Mixed<T> mixed = Mix(m, n, routing, row_dy, round, &d);
    const std::vector<T> dlogit = LogitGradients(m, routing, mixed.dweights);
    for (int64_t c = 0; c < C; ++c) {
      T from_gate = 0;
      for (int64_t e = 0; e < m.experts; ++e) {
        from_gate += dlogit[e] * T(m.gate[e * C + c]);
        d.gate[e * C + c] = double(T(d.gate[e * C + c]) + dlogit[e] * T(m.x[n * C + c]));
      }
      d.x[n * C + c] = round(mixed.dx[c] + T(round(from_gate)));
      result.y[n * C + c] = double(mixed.y[c]);
    }
    result.weights.insert(result.weights.end(), routing.weights.begin(), routing.weights.end());
    result.ids.insert(result.ids.end(), routing.ids.begin(), routing.ids.end());
    result.margin = std::min(result.margin, routing.margin);
  }
  return result;
}

template NaiveResult RunNaive<double>(const NaiveMoe&, const std::vector<double>&,
                                      const std::function<double(double)>&);
template NaiveResult RunNaive<float>(const NaiveMoe&, const std::vector<double>&,
                                     const std::function<double(double)>&);

double NaiveAuxiliaryLoss(const NaiveMoe& m, const std::vector<double>& shares, double coef,
                          double z_coef) {
  const int64_t samples = static_cast<int64_t>(shares.size()) / m.experts;
  double balance = 0, z = 0;
  for (int64_t n = 0; n < m.rows; ++n) {
    std::vector<double> logits;
    const std::vector<double> scores = Scores<double>(m, n, &logits);
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
