#include "nsa/selected_attention.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<SelectedAttentionFwdArgs> kSelectedAttentionFwd{
    "selected_attention_fwd", "q k v blocks positions cu_queries cu_keys =o =lse",
    cpu::SelectedAttentionFwd, LACUNA_IF_CUDA(cuda::SelectedAttentionFwd)};
constinit const Kernel<SelectedAttentionFwdArgs> kSelectedAttentionGatedFwd{
    "selected_attention_gated_fwd",
    "q k v blocks positions cu_queries cu_keys =o =lse gate o_cmp o_win =o_sum",
    cpu::SelectedAttentionFwd, LACUNA_IF_CUDA(cuda::SelectedAttentionFwd)};
constinit const Kernel<SelectedAttentionBwdArgs> kSelectedAttentionBwd{
    "selected_attention_bwd",
    "q k v blocks positions cu_queries cu_keys o lse d_o =dq =dk =dv delta",
    cpu::SelectedAttentionBwd, LACUNA_IF_CUDA(cuda::SelectedAttentionBwd)};
constinit const Kernel<SelectedAttentionBwdArgs> kSelectedAttentionBwdAdd{
    "selected_attention_bwd_add",
    "q k v blocks positions cu_queries cu_keys o lse d_o +dq =dk =dv delta",
    cpu::SelectedAttentionBwd, LACUNA_IF_CUDA(cuda::SelectedAttentionBwd)};

template <class Args>
void CheckCommon(const char* op, const Args& args) {
  LACUNA_CHECK(args.q.rank == 3 && args.k.rank == 3 && args.v.rank == 3 && args.blocks.rank == 3,
               "{}: q {}, k {}, v {}, blocks {}", op, Describe(args.q), Describe(args.k),
               Describe(args.v), Describe(args.blocks));
  const int64_t n = args.q.dim(0), heads = args.q.dim(1), keys = args.k.dim(0),
                groups = args.k.dim(1);
  LACUNA_CHECK(groups > 0 && heads % groups == 0, "{}: {} heads in {} groups", op, heads, groups);
  LACUNA_CHECK(args.select_block >= 1, "{}: select_block {}", op, args.select_block);
  CheckShape(op, "k", args.k, {keys, groups, args.q.dim(2)});
  CheckShape(op, "v", args.v, {keys, groups, args.v.dim(2)});
  CheckShape(op, "blocks", args.blocks, {n, groups, args.blocks.dim(2)});
  CheckShape(op, "positions", args.positions, {n});
  CheckShape(op, "o", args.o, {n, heads, args.v.dim(2)});
  CheckShape(op, "lse", args.lse, {n, heads});
  CheckShape(op, "cu_keys", args.cu_keys, {args.cu_queries.dim(0)});
  for (const auto& [name, tensor] : {std::pair{"blocks", args.blocks},
                                     {"positions", args.positions},
                                     {"cu_queries", args.cu_queries},
                                     {"cu_keys", args.cu_keys}}) {
    CheckDType(op, name, tensor, DType::kI32);
  }
  for (const auto& [name, tensor] : {std::pair{"k", args.k}, {"v", args.v}, {"o", args.o}})
    CheckDType(op, name, tensor, args.q.dtype);
  CheckDType(op, "lse", args.lse, AccumulationType(args.q.dtype));
}

}  // namespace

void SelectedAttentionFwd(const SelectedAttentionFwdArgs& args, Stream stream) {
  constexpr const char* kOp = "selected_attention_fwd";
  CheckCommon(kOp, args);
  if (!args.o_sum.defined()) return kSelectedAttentionFwd(args, stream);
  const int64_t n = args.o.dim(0), heads = args.o.dim(1);
  CheckShape(kOp, "gate", args.gate, {n, heads, 3});
  CheckDType(kOp, "gate", args.gate, args.lse.dtype);
  for (const auto& [name, tensor] :
       {std::pair{"o_cmp", args.o_cmp}, {"o_win", args.o_win}, {"o_sum", args.o_sum}}) {
    CheckShape(kOp, name, tensor, {n, heads, args.o.dim(2)});
    CheckDType(kOp, name, tensor, args.o.dtype);
  }
  kSelectedAttentionGatedFwd(args, stream);
}

void SelectedAttentionBwd(const SelectedAttentionBwdArgs& args, Stream stream) {
  constexpr const char* kOp = "selected_attention_bwd";
  CheckCommon(kOp, args);
  CheckShape(kOp, "d_o", args.d_o, {args.o.dim(0), args.o.dim(1), args.o.dim(2)});
  CheckShape(kOp, "dq", args.dq, {args.q.dim(0), args.q.dim(1), args.q.dim(2)});
  CheckShape(kOp, "dk", args.dk, {args.k.dim(0), args.k.dim(1), args.k.dim(2)});
  CheckShape(kOp, "dv", args.dv, {args.v.dim(0), args.v.dim(1), args.v.dim(2)});
  for (const auto& [name, tensor] :
       {std::pair{"d_o", args.d_o}, {"dq", args.dq}, {"dk", args.dk}, {"dv", args.dv}}) {
    CheckDType(kOp, name, tensor, args.q.dtype);
  }
  if (args.delta.defined()) {
    CheckShape(kOp, "delta", args.delta, {args.q.dim(0), args.q.dim(1)});
    CheckDType(kOp, "delta", args.delta, AccumulationType(args.q.dtype));
  }
  LACUNA_CHECK(args.key_stream.handle == nullptr || args.delta.defined(),
               "{}: a stream for dk and dv, but no delta", kOp);
  (args.add_dq ? kSelectedAttentionBwdAdd : kSelectedAttentionBwd)(args, stream);
}

}  // namespace lacuna::ops
