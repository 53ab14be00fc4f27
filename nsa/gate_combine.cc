#include "nsa/gate_combine.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<GateCombineFwdArgs> kGateCombineFwd{
    "gate_combine_fwd", "gate o_cmp o_slc o_win =o", cpu::GateCombineFwd,
    LACUNA_IF_CUDA(cuda::GateCombineFwd)};
constinit const Kernel<GateCombineBwdArgs> kGateCombineBwd{
    "gate_combine_bwd",
    "gate o_cmp o_slc o_win lse_cmp lse_slc lse_win d_o =dgate =delta =weighted_lse",
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
  constexpr const char* kOp = "gate_combine_bwd";
  CheckBranches(kOp, args.gate, args.d_o, {args.o_cmp, args.o_slc, args.o_win});
  CheckBranches(kOp, args.dgate, args.d_o, {});
  const int64_t n = args.d_o.dim(0), heads = args.d_o.dim(1);
  for (const TensorRef& lse : {args.lse_cmp, args.lse_slc, args.lse_win}) {
    CheckShape(kOp, "lse", lse, {n, heads});
    CheckDType(kOp, "lse", lse, args.gate.dtype);
  }
  for (const auto& [name, tensor] :
       {std::pair{"delta", args.delta}, {"weighted_lse", args.weighted_lse}}) {
    CheckShape(kOp, name, tensor, {3, n, heads});
    CheckDType(kOp, name, tensor, args.gate.dtype);
  }
  kGateCombineBwd(args, stream);
}

}  // namespace lacuna::ops
