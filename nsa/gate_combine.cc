#include "nsa/gate_combine.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<GateCombineFwdArgs> kGateCombineFwd{
    "gate_combine_fwd", "gate o_cmp o_slc o_win =o", cpu::GateCombineFwd,
    LACUNA_IF_CUDA(cuda::GateCombineFwd)};
constinit const Kernel<GateCombineBwdArgs> kGateCombineBwd{
    "gate_combine_bwd", "gate o_cmp o_slc o_win d_o =dgate =do_cmp =do_slc =do_win",
    cpu::GateCombineBwd, LACUNA_IF_CUDA(cuda::GateCombineBwd)};

// All of `branches` look like `o`, and the gate goes with it.
void CheckBranches(const char* op, const TensorRef& gate, const TensorRef& o,
                   std::initializer_list<TensorRef> branches) {
  LACUNA_CHECK(o.rank == 3, "{}: o {}", op, Describe(o));
  CheckShape(op, "gate", gate, {o.dim(0), o.dim(1), 3});
  CheckDType(op, "gate", gate, AccumulationType(o.dtype));
  for (const TensorRef& branch : branches) {
    CheckShape(op, "branch", branch, {o.dim(0), o.dim(1), o.dim(2)});
    CheckDType(op, "branch", branch, o.dtype);
  }
}

}  // namespace

void GateCombineFwd(const GateCombineFwdArgs& args, Stream stream) {
  CheckBranches("gate_combine_fwd", args.gate, args.o, {args.o_cmp, args.o_slc, args.o_win});
  kGateCombineFwd(args, stream);
}

void GateCombineBwd(const GateCombineBwdArgs& args, Stream stream) {
  CheckBranches("gate_combine_bwd", args.gate, args.d_o,
                {args.o_cmp, args.o_slc, args.o_win, args.do_cmp, args.do_slc, args.do_win});
  CheckBranches("gate_combine_bwd", args.dgate, args.d_o, {});
  kGateCombineBwd(args, stream);
}

}  // namespace lacuna::ops
