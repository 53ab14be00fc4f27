#include "tests/reference/naive_nsa.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lacuna::test {
namespace {

using Values = std::vector<double>;
using Lists = std::vector<std::vector<std::vector<int64_t>>>;
size_t Z(int64_t i) {
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

  Naive(const NaiveNsaProblem& problem, Mutation m, const Rounding& r)
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

  void SetFrequencies() {
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

  // Rotates rows of `heads` heads of width dk to positions; sign -1 for the transposed matrix.
  Values Rope(const Values& x, int64_t heads, const std::vector<int64_t>& positions,
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

  std::vector<int64_t> CmpPositions() const {
    std::vector<int64_t> positions;
    for (const Cmp& c : compressed) positions.push_back(position[Z(c.last)]);
    return positions;
  }

  // phi of every compressed block and group; the hidden layer's inputs go to `hidden` if asked for.
  Values Phi(const std::string& which, const Values& x, int64_t width, Values* flat_out = nullptr,
             Values* hidden_out = nullptr) const {
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

  bool CmpVisible(int64_t t, size_t i) const {
    return compressed[i].document == document[Z(t)] && compressed[i].last <= t;
  }

  double Dot(const Values& q, int64_t t, int64_t h, const Values& k, int64_t row) const {
    double sum = 0;
    for (int64_t c = 0; c < p.dk; ++c)
      sum += q[Z((t * p.heads + h) * p.dk + c)] *
             k[Z((row * p.groups + h / (p.heads / p.groups)) * p.dk + c)];
    return sum;
  }

  Values Softmax(const Values& logits) const {
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (const double x : logits) top = std::max(top, x);
    Values y;
    for (const double x : logits) y.push_back(std::exp(x - top));
    for (const double x : y) sum += x;
    for (double& x : y) x /= sum;
    return y;
  }

  Values Probabilities(const Values& q, int64_t t, int64_t h, const Values& k,
                       const std::vector<int64_t>& rows, double factor) const {
    Values logits;
    for (const int64_t row : rows) logits.push_back(factor * Dot(q, t, h, k, row));
    return Softmax(logits);
  }

  std::vector<int64_t> VisibleCmp(int64_t t) const {
    std::vector<int64_t> rows;
    for (size_t i = 0; i < compressed.size(); ++i) {
      if (CmpVisible(t, i)) rows.push_back(static_cast<int64_t>(i));
    }
    return rows;
  }
  std::vector<int64_t> WindowRows(int64_t t) const {
    const int64_t w = p.window + (mutation == Mutation::kWindowPlusOne ? 1 : 0);
    std::vector<int64_t> rows;
    for (int64_t u = std::max(start[Z(t)], t - w + 1); u <= t; ++u) rows.push_back(u);
    return rows;
  }
  // Where a document's block grid begins.
  int64_t Origin(int64_t t) const {
    return mutation == Mutation::kGridIgnoresDocuments ? 0 : start[Z(t)];
  }
  std::vector<int64_t> BlockRows(int64_t t, const std::vector<int64_t>& blocks) const {
    std::vector<int64_t> rows;
    for (const int64_t j : blocks) {
      for (int64_t u = Origin(t) + j * p.select_block; u < Origin(t) + (j + 1) * p.select_block;
           ++u) {
        if (u >= start[Z(t)] && u <= t) rows.push_back(u);
      }
    }
    return rows;
  }

  // Score of block j: a compressed block counts for each of its d-token pieces that lies in the
  // block.
  Values Scores(const Values& q, const Values& k_cmp, int64_t t, int64_t g) const {
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

  std::vector<int64_t> Select(const Values& scores) const {
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

  void Attend(const Values& q, const Values& k, const Values& v, int64_t t,
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
};

// Adds the gradients of one query's attention over `rows`.
void AttendBackward(const Naive& s, const Values& q, const Values& k, const Values& v, int64_t t,
                    const std::vector<int64_t>& rows, const Values& d_o, Values* dq, Values* dk,
                    Values* dv) {
  const auto& p = s.p;
  for (int64_t h = 0; h < p.heads; ++h) {
    const Values probability = s.Probabilities(q, t, h, k, rows, s.scale);
    const int64_t g = h / (p.heads / p.groups), query = t * p.heads + h;
    Values dp(rows.size(), 0.0);
    double mean = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      for (int64_t c = 0; c < p.dv; ++c)
        dp[i] += d_o[Z(query * p.dv + c)] * v[Z((rows[i] * p.groups + g) * p.dv + c)];
      mean += probability[i] * dp[i];
    }
    for (size_t i = 0; i < rows.size(); ++i) {
      const double ds = s.round(probability[i] * (dp[i] - mean)) * s.scale;
      const int64_t key = rows[i] * p.groups + g;
      for (int64_t c = 0; c < p.dk; ++c) {
        (*dq)[Z(query * p.dk + c)] += ds * k[Z(key * p.dk + c)];
        (*dk)[Z(key * p.dk + c)] += ds * q[Z(query * p.dk + c)];
      }
      for (int64_t c = 0; c < p.dv; ++c)
        (*dv)[Z(key * p.dv + c)] += s.round(probability[i]) * d_o[Z(query * p.dv + c)];
    }
  }
}

void RoundAll(const Rounding& round, Values* x) {
  for (double& value : *x) value = round(value);
}

// Gradients of phi's parameters and of the tokens it read, from those of its outputs.
void PhiBackward(const Naive& s, const std::string& which, const Values& x, int64_t width,
                 const Values& dy, std::map<std::string, Values>* grads, Values* dx) {
  Values flat, a;
  s.Phi(which, x, width, &flat, &a);
  const Values &w1 = s.p.in.at(which + ".w1"), &w2 = s.p.in.at(which + ".w2");
  const int64_t fan = s.p.block * width, hidden = static_cast<int64_t>(w1.size()) / fan;
  Values &dpos = (*grads)[which + ".pos"], &dw1 = (*grads)[which + ".w1"],
         &dw2 = (*grads)[which + ".w2"];
  dpos.assign(Z(fan), 0);
  dw1.assign(w1.size(), 0);
  dw2.assign(w2.size(), 0);
  for (size_t i = 0; i < s.compressed.size(); ++i) {
    for (int64_t g = 0; g < s.p.groups; ++g) {
      const int64_t r = static_cast<int64_t>(i) * s.p.groups + g;
      Values da(Z(hidden));
      for (int64_t k = 0; k < hidden; ++k) {
        const double z = a[Z(r * hidden + k)], sig = 1 / (1 + std::exp(-z));
        double sum = 0;
        for (int64_t o = 0; o < width; ++o) {
          sum += w2[Z(o * hidden + k)] * dy[Z(r * width + o)];
          dw2[Z(o * hidden + k)] += dy[Z(r * width + o)] * s.round(z * sig);
        }
        da[Z(k)] = s.round(s.round(sum) * sig * (1 + z * (1 - sig)));
      }
      for (int64_t f = 0; f < fan; ++f) {
        double sum = 0;
        for (int64_t k = 0; k < hidden; ++k) {
          sum += w1[Z(k * fan + f)] * da[Z(k)];
          dw1[Z(k * fan + f)] += da[Z(k)] * flat[Z(r * fan + f)];
        }
        dpos[Z(f)] += s.round(sum);
        (*dx)[Z(((s.compressed[i].first + f / width) * s.p.groups + g) * width + f % width)] +=
            s.round(sum);
      }
    }
  }
}

}  // namespace

NaiveNsaResult NaiveNsaForward(const NaiveNsaProblem& p, Mutation mutation, const Rounding& round,
                               const Lists* forced) {
  const Naive s(p, mutation, round);
  const Values q = s.Rope(p.in.at("q"), p.heads, s.position, 1),
               k_slc = s.Rope(p.in.at("k_slc"), p.groups, s.position, 1);
  const Values k_win = s.Rope(p.in.at("k_win"), p.groups, s.position, 1);
  const Values k_cmp = s.Rope(s.Phi("k", p.in.at("k_cmp"), p.dk), p.groups, s.CmpPositions(), 1),
               v_cmp = s.Phi("v", p.in.at("v_cmp"), p.dv);
  NaiveNsaResult result;
  result.o.assign(Z(s.n * p.heads * p.dv), 0);
  for (const char* c : {"cmp", "slc", "win"}) result.branch[c] = result.o;
  for (int64_t t = 0; t < s.n; ++t) {
    s.Attend(q, k_cmp, v_cmp, t, s.VisibleCmp(t), &result.branch["cmp"]);
    s.Attend(q, k_win, p.in.at("v_win"), t, s.WindowRows(t), &result.branch["win"]);
    result.blocks.emplace_back();
    for (int64_t g = 0; g < p.groups; ++g) {
      result.blocks.back().push_back(forced ? (*forced)[Z(t)][Z(g)]
                                            : s.Select(s.Scores(q, k_cmp, t, g)));
      result.left_out |= static_cast<int64_t>(result.blocks.back().back().size()) <
                         s.position[Z(t)] / p.select_block + 1;
      // One group at a time: attend, then keep only that group's heads.
      Values o(result.o.size(), 0);
      s.Attend(q, k_slc, p.in.at("v_slc"), t, s.BlockRows(t, result.blocks.back().back()), &o);
      const int64_t per = p.heads / p.groups * p.dv, first = t * p.heads * p.dv + g * per;
      std::copy(o.begin() + first, o.begin() + first + per, result.branch["slc"].begin() + first);
    }
  }
  const Values& gate = p.in.at("gate");
  for (int64_t i = 0; i < s.n * p.heads * p.dv; ++i) {
    const int64_t r = i / p.dv;
    result.o[Z(i)] = s.round(gate[Z(3 * r)] * result.branch["cmp"][Z(i)] +
                             gate[Z(3 * r + 1)] * result.branch["slc"][Z(i)] +
                             gate[Z(3 * r + 2)] * result.branch["win"][Z(i)]);
  }
  return result;
}

std::map<std::string, Values> NaiveNsaBackward(const NaiveNsaProblem& p, const Values& d_o,
                                               const Lists& blocks, const Rounding& round) {
  const Naive s(p, Mutation::kNone, round);
  const NaiveNsaResult forward = NaiveNsaForward(p, Mutation::kNone, round, &blocks);
  const Values q = s.Rope(p.in.at("q"), p.heads, s.position, 1);
  const Values k_cmp = s.Rope(s.Phi("k", p.in.at("k_cmp"), p.dk), p.groups, s.CmpPositions(), 1),
               v_cmp = s.Phi("v", p.in.at("v_cmp"), p.dv);
  std::map<std::string, Values> grads;
  const Values& gate = p.in.at("gate");
  grads["gate"].assign(gate.size(), 0);
  Values dq(q.size(), 0), dk_cmp(k_cmp.size(), 0), dv_cmp(v_cmp.size(), 0);
  const char* names[] = {"cmp", "slc", "win"};
  for (int c = 0; c < 3; ++c) {
    const std::string name = names[c];
    Values branch_do(d_o.size()), branch_dq(q.size(), 0);
    for (size_t i = 0; i < d_o.size(); ++i) {
      const size_t r = i / Z(p.dv);
      branch_do[i] = s.round(gate[3 * r + Z(c)] * d_o[i]);
      grads["gate"][3 * r + Z(c)] += d_o[i] * forward.branch.at(name)[i];
    }
    const Values k = c == 0 ? k_cmp : s.Rope(p.in.at("k_" + name), p.groups, s.position, 1),
                 &v = c == 0 ? v_cmp : p.in.at("v_" + name);
    Values dk(k.size(), 0), dv(v.size(), 0);
    for (int64_t t = 0; t < s.n; ++t) {
      if (c != 1) {
        AttendBackward(s, q, k, v, t, c == 0 ? s.VisibleCmp(t) : s.WindowRows(t), branch_do,
                       &branch_dq, &dk, &dv);
        continue;
      }
      for (int64_t g = 0; g < p.groups; ++g) {
        // Only this group's heads have a gradient.
        Values masked(d_o.size(), 0);
        const int64_t per = p.heads / p.groups * p.dv, first = t * p.heads * p.dv + g * per;
        std::copy(branch_do.begin() + first, branch_do.begin() + first + per,
                  masked.begin() + first);
        AttendBackward(s, q, k, v, t, s.BlockRows(t, blocks[Z(t)][Z(g)]), masked, &branch_dq, &dk,
                       &dv);
      }
    }
    for (Values* x : {&branch_dq, &dk, &dv}) RoundAll(s.round, x);
    for (size_t i = 0; i < dq.size(); ++i) dq[i] += branch_dq[i];
    if (c == 0) {
      dk_cmp = s.Rope(dk, p.groups, s.CmpPositions(), -1);
      dv_cmp = dv;
    } else {
      grads["k_" + name] = s.Rope(dk, p.groups, s.position, -1);
      grads["v_" + name] = dv;
    }
  }
  RoundAll(s.round, &dq);
  grads["q"] = s.Rope(dq, p.heads, s.position, -1);
  for (const auto& [which, width, dy] :
       {std::tuple{std::string("k"), p.dk, &dk_cmp}, {std::string("v"), p.dv, &dv_cmp}}) {
    Values dx(p.in.at(which + "_cmp").size(), 0);
    PhiBackward(s, which, p.in.at(which + "_cmp"), width, *dy, &grads, &dx);
    RoundAll(s.round, &dx);
    grads[which + "_cmp"] = dx;
  }
  return grads;
}

}  // namespace lacuna::test
