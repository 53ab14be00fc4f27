#include "nsa/nsa_operator.h"

#include <utility>

#include "autograd/functions/rope.h"
#include "nn/context_gather.h"

namespace lacuna {
namespace {

// What compresses and rotates.
struct Parts {
  Tape& tape;
  Phi &phi_k, &phi_v;
  const std::shared_ptr<const NsaGrid>& grid;
  const RopeTable& rope;

  Variable Rotated(Variable x) const { return Rope(tape, std::move(x), grid->positions, rope); }
  void Compress(NsaInputs& in) const {
    in.k_cmp = Rope(tape, phi_k.Compress(tape, in.k_cmp, grid), grid->cmp_positions, rope);
    in.v_cmp = phi_v.Compress(tape, in.v_cmp, grid);
  }
};

void Prepare(const Parts& parts, NsaInputs& in) {
  in.q = parts.Rotated(std::move(in.q));
  parts.Compress(in);
  in.k_slc = parts.Rotated(std::move(in.k_slc));
  in.k_win = parts.Rotated(std::move(in.k_win));
}

// The queries are rotated, and phi is computed, with keys and values on their way.
void PrepareShared(const Parts& parts, const ContextShare& context, NsaInputs& in) {
  Tape& tape = parts.tape;
  ContextGather k_cmp(tape, context, in.k_cmp), v_cmp(tape, context, in.v_cmp),
      k_slc(tape, context, parts.Rotated(std::move(in.k_slc))), v_slc(tape, context, in.v_slc),
      k_win(tape, context, parts.Rotated(std::move(in.k_win))), v_win(tape, context, in.v_win);
  in.q = parts.Rotated(std::move(in.q));
  in.k_cmp = k_cmp.Finish();
  in.v_cmp = v_cmp.Finish();
  parts.Compress(in);
  in.k_slc = k_slc.Finish();
  in.v_slc = v_slc.Finish();
  in.k_win = k_win.Finish();
  in.v_win = v_win.Finish();
}

}  // namespace

NsaResult NsaOperator(Tape& tape, NsaInputs in, Phi& phi_k, Phi& phi_v,
                      const std::shared_ptr<const NsaGrid>& grid, const RopeTable& rope,
                      const NsaConfig& config, const NsaOptions& options,
                      const ContextShare* context) {
  const Parts parts{tape, phi_k, phi_v, grid, rope};
  if (context == nullptr) {
    Prepare(parts, in);
  } else {
    PrepareShared(parts, *context, in);
  }
  return {AttendBranches(tape, in, grid, config, options), in.k_cmp.value(), in.v_cmp.value(),
          in.k_slc.value(), in.k_win.value()};
}

}  // namespace lacuna
