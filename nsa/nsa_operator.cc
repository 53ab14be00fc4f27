#include "nsa/nsa_operator.h"

#include <utility>

#include "autograd/functions/rope.h"

namespace lacuna {

NsaResult NsaOperator(Tape& tape, NsaInputs in, Phi& phi_k, Phi& phi_v,
                      const std::shared_ptr<const NsaGrid>& grid, const RopeTable& rope,
                      const NsaConfig& config, const NsaOptions& options) {
  in.q = Rope(tape, std::move(in.q), grid->positions, rope);
  in.k_cmp = Rope(tape, phi_k.Compress(tape, in.k_cmp, grid), grid->cmp_positions, rope);
  in.v_cmp = phi_v.Compress(tape, in.v_cmp, grid);
  in.k_slc = Rope(tape, std::move(in.k_slc), grid->positions, rope);
  in.k_win = Rope(tape, std::move(in.k_win), grid->positions, rope);
  return {AttendBranches(tape, in, grid, config, options), in.k_cmp.value(), in.v_cmp.value(),
          in.k_slc.value(), in.k_win.value()};
}

}  // namespace lacuna
