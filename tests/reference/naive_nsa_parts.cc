#include "tests/reference/naive_nsa_parts.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lacuna::test {
namespace {

Values Softmax(const Values& logits) {
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const double x : logits) top = std::max(top, x);
  Values y;
  for (const double x : logits) y.push_back(std::exp(x - top));
  for (const double x : y) sum += x;
  for (double& x : y) x /= sum;
  return y;
}

}  // namespace

Naive::Naive(const NaiveNsaProblem& problem, Mutation m, const Rounding& r)
    : p(problem), mutation(m), round(r ? r : [](double x) { return x; }) {
  for (size_t d = 0; d + 1 < p.cu_seqlens.size(); ++d) {
    const int64_t begin = p.cu_seqlens[d], length = p.cu_seqlens[d + 1] - begin;
    for (int64_t t = 0; t < length; ++t) {
      start.push_back(begin);
      position.push_back(t);
      document.push_back(static_cast<int64_t>(d));
    }
    for (int64_t i = 0; i * p.stride + p.block <= length; ++i) {
      compressed.push_back(
          {begin + i * p.stride, begin + i * p.stride + p.block - 1, static_cast<int64_t>(d)});
    }
    if (mutation == Mutation::kCompressIncomplete && length < p.block &&
        length > p.block - p.stride) {
      compressed.push_back({begin, begin + length - 1, static_cast<int64_t>(d)});
    }
  }
  scale = 1 / std::sqrt(static_cast<double>(p.dk));
  SetFrequencies();
  if (mutation == Mutation::kYarnOnSoftmaxScale) {
    scale *= rope_factor * rope_factor;
    rope_factor = 1;
  }
}

void Naive::SetFrequencies() {
  for (int64_t i = 0; i < p.rotary / 2; ++i)
    frequencies.push_back(
        std::pow(p.theta, -2.0 * static_cast<double>(i) / static_cast<double>(p.rotary)));
  if (p.yarn_factor <= 1) return;
  const auto dim = [&](double turns) {
    return static_cast<double>(p.rotary) * std::log(p.yarn_original / (turns * 2 * M_PI)) /
           (2 * std::log(p.theta));
  };
  const double low = std::max(0.0, std::floor(dim(p.beta_fast)));
  const double high = std::min(static_cast<double>(p.rotary - 1), std::ceil(dim(p.beta_slow)));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::min(
        1.0, std::max(0.0, (static_cast<double>(i) - low) / (high > low ? high - low : 0.001)));
    frequencies[i] *= ramp / p.yarn_factor + (1 - ramp);
  }
  rope_factor = 0.1 * std::log(p.yarn_factor) + 1;
}

Values Naive::Rope(const Values& x, int64_t heads, const std::vector<int64_t>& positions,
                   double sign) const {
  Values y = x;
  for (size_t r = 0; r < positions.size(); ++r) {
    for (int64_t h = 0; h < heads; ++h) {
      double* out = y.data() + (static_cast<int64_t>(r) * heads + h) * p.dk;
      const double* in = x.data() + (static_cast<int64_t>(r) * heads + h) * p.dk;
      for (int64_t i = 0; i < p.rotary / 2; ++i) {
        const double angle = static_cast<double>(positions[r]) * frequencies[Z(i)];
        const double c = rope_factor * std::cos(angle), s = sign * rope_factor * std::sin(angle);
        out[i] = in[i] * c - in[i + p.rotary / 2] * s;
        out[i + p.rotary / 2] = in[i + p.rotary / 2] * c + in[i] * s;
      }
      for (int64_t i = 0; i < p.dk; ++i) out[i] = round(out[i]);
    }
  }
  return y;
}

std::vector<int64_t> Naive::CmpPositions() const {
  std::vector<int64_t> positions;
  for (const Cmp& c : compressed) positions.push_back(position[Z(c.last)]);
  return positions;
}

Values Naive::Phi(const std::string& which, const Values& x, int64_t width, Values* flat_out,
                  Values* hidden_out) const {
  const Values &pos = p.in.at(which + ".pos"), &w1 = p.in.at(which + ".w1"),
               &w2 = p.in.at(which + ".w2");
  const int64_t hidden = static_cast<int64_t>(w1.size()) / (p.block * width);
  Values y;
  for (const Cmp& c : compressed) {
    for (int64_t g = 0; g < p.groups; ++g) {
      Values flat(Z(p.block * width), 0.0), a(Z(hidden));
      for (int64_t u = 0; c.first + u <= c.last; ++u) {
        for (int64_t i = 0; i < width; ++i)
          flat[Z(u * width + i)] =
              round(x[Z(((c.first + u) * p.groups + g) * width + i)] + pos[Z(u * width + i)]);
      }
      for (int64_t k = 0; k < hidden; ++k) {
        double sum = 0;
        for (size_t i = 0; i < flat.size(); ++i) sum += w1[Z(k) * flat.size() + i] * flat[i];
        a[Z(k)] = round(sum);
      }
      for (int64_t o = 0; o < width; ++o) {
        double sum = 0;
        for (int64_t k = 0; k < hidden; ++k)
          sum += w2[Z(o * hidden + k)] * round(a[Z(k)] / (1 + std::exp(-a[Z(k)])));
        y.push_back(round(sum));
      }
      if (flat_out) flat_out->insert(flat_out->end(), flat.begin(), flat.end());
      if (hidden_out) hidden_out->insert(hidden_out->end(), a.begin(), a.end());
    }
  }
  return y;
}

double Naive::Dot(const Values& q, int64_t t, int64_t h, const Values& k, int64_t row) const {
  double sum = 0;
  for (int64_t c = 0; c < p.dk; ++c)
    sum += q[Z((t * p.heads + h) * p.dk + c)] *
           k[Z((row * p.groups + h / (p.heads / p.groups)) * p.dk + c)];
  return sum;
}

Values Naive::Probabilities(const Values& q, int64_t t, int64_t h, const Values& k,
                            const std::vector<int64_t>& rows, double factor) const {
  Values logits;
  for (const int64_t row : rows) logits.push_back(factor * Dot(q, t, h, k, row));
  return Softmax(logits);
}

std::vector<int64_t> Naive::VisibleCmp(int64_t t) const {
  std::vector<int64_t> rows;
  for (size_t i = 0; i < compressed.size(); ++i) {
    if (compressed[i].document == document[Z(t)] && compressed[i].last <= t)
      rows.push_back(static_cast<int64_t>(i));
  }
  return rows;
}

std::vector<int64_t> Naive::WindowRows(int64_t t) const {
  const int64_t w = p.window + (mutation == Mutation::kWindowPlusOne ? 1 : 0);
  std::vector<int64_t> rows;
  for (int64_t u = std::max(start[Z(t)], t - w + 1); u <= t; ++u) rows.push_back(u);
  return rows;
}

int64_t Naive::Origin(int64_t t) const {
  return mutation == Mutation::kGridIgnoresDocuments ? 0 : start[Z(t)];
}

std::vector<int64_t> Naive::BlockRows(int64_t t, const std::vector<int64_t>& blocks) const {
  std::vector<int64_t> rows;
  for (const int64_t j : blocks) {
    for (int64_t u = Origin(t) + j * p.select_block; u < Origin(t) + (j + 1) * p.select_block;
         ++u) {
      if (u >= start[Z(t)] && u <= t) rows.push_back(u);
    }
  }
  return rows;
}

Values Naive::Scores(const Values& q, const Values& k_cmp, int64_t t, int64_t g) const {
  const int64_t own = (t - Origin(t)) / p.select_block, rep = p.heads / p.groups,
                per = p.select_block / p.stride;
  Values scores(Z(own + 1), 0.0);
  const auto rows = VisibleCmp(t);
  for (int64_t h = g * rep; h < (g + 1) * rep; ++h) {
    Values weight =
        Probabilities(q, t, h, k_cmp, rows, mutation == Mutation::kScoresUnscaled ? 1.0 : scale);
    if (mutation == Mutation::kScoresMeanOfLogits) {
      for (size_t i = 0; i < rows.size(); ++i)
        weight[i] = scale * Dot(q, t, h, k_cmp, rows[i]) / static_cast<double>(rep);
    }
    for (int64_t j = 0; j <= own; ++j) {
      for (int64_t m = 0; m < per; ++m) {
        for (int64_t k = 0; k < p.block / p.stride; ++k) {
          const int64_t i =
              mutation == Mutation::kScoresShifted ? per * j - m - k : per * j + m - k;
          if (i >= 0 && i < static_cast<int64_t>(rows.size())) scores[Z(j)] += weight[Z(i)];
        }
      }
    }
  }
  return scores;
}

std::vector<int64_t> Naive::Select(const Values& scores) const {
  const int64_t own = static_cast<int64_t>(scores.size()) - 1,
                local = mutation == Mutation::kOneLocalBlock ? 1 : p.num_local;
  std::vector<int64_t> chosen, free;
  for (int64_t j = 0; j <= own; ++j)
    (j < p.num_init || j > own - local ? chosen : free).push_back(j);
  std::stable_sort(free.begin(), free.end(),
                   [&](int64_t a, int64_t b) { return scores[Z(a)] > scores[Z(b)]; });
  for (size_t i = 0; i < free.size() && static_cast<int64_t>(chosen.size()) < p.num_selected; ++i)
    chosen.push_back(free[i]);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

void Naive::Attend(const Values& q, const Values& k, const Values& v, int64_t t,
                   const std::vector<int64_t>& rows, Values* o) const {
  for (int64_t h = 0; h < p.heads; ++h) {
    const Values probability = Probabilities(q, t, h, k, rows, scale);
    for (int64_t c = 0; c < p.dv; ++c) {
      double sum = 0;
      for (size_t i = 0; i < rows.size(); ++i)
        sum += round(probability[i]) *
               v[Z((rows[i] * p.groups + h / (p.heads / p.groups)) * p.dv + c)];
      (*o)[Z((t * p.heads + h) * p.dv + c)] = round(sum);
    }
  }
}

}  // namespace lacuna::test
