#include <algorithm>
#include <cmath>
#include <tuple>

#include "tests/reference/naive_nsa.h"
#include "tests/reference/naive_nsa_parts.h"

namespace lacuna::test {
namespace {

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
