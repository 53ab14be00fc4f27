#include "tests/reference/naive_nsa.h"

#include <algorithm>

#include "tests/reference/naive_nsa_parts.h"

namespace lacuna::test {

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

}  // namespace lacuna::test
