#include "core/ops/attention.h"

#include <limits>

#include "core/kernel.h"
#include "core/ops/attention_split.h"
#include "core/ops/check.h"
#include "core/ops/cuda/attention_cudnn.h"
#include "core/ops/cuda/hopper/attention.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<AttentionFwdArgs> kAttentionFwd{
    "attention_fwd", "q k v ranges cu_queries cu_keys =o =lse", cpu::AttentionFwd,
    LACUNA_IF_CUDA(cuda::AttentionFwd)};
constinit const Kernel<AttentionBwdArgs> kAttentionBwd{
    "attention_bwd", "q k v ranges cu_queries cu_keys o lse d_o =dq =dk =dv delta",
    cpu::AttentionBwd, LACUNA_IF_CUDA(cuda::AttentionBwd)};
constinit const Kernel<AttentionBwdArgs> kAttentionBwdAdd{
    "attention_bwd_add", "q k v ranges cu_queries cu_keys o lse d_o +dq =dk =dv delta",
    cpu::AttentionBwd, LACUNA_IF_CUDA(cuda::AttentionBwd)};

template <class Args>
void CheckCommon(const char* op, const Args& args) {
  LACUNA_CHECK(args.q.rank == 3 && args.k.rank == 3 && args.v.rank == 3, "{}: q {}, k {}, v {}", op,
               Describe(args.q), Describe(args.k), Describe(args.v));
  const int64_t n = args.q.dim(0), heads = args.q.dim(1), keys = args.k.dim(0),
                groups = args.k.dim(1);
  LACUNA_CHECK(groups > 0 && heads % groups == 0, "{}: {} heads in {} groups", op, heads, groups);
  CheckShape(op, "k", args.k, {keys, groups, args.q.dim(2)});
  CheckShape(op, "v", args.v, {keys, groups, args.v.dim(2)});
  CheckShape(op, "ranges", args.ranges, {n, 2});
  CheckShape(op, "o", args.o, {n, heads, args.v.dim(2)});
  CheckShape(op, "lse", args.lse, {n, heads});
  CheckShape(op, "cu_keys", args.cu_keys, {args.cu_queries.dim(0)});
  for (const auto& [name, tensor] : {std::pair{"ranges", args.ranges},
                                     {"cu_queries", args.cu_queries},
                                     {"cu_keys", args.cu_keys}}) {
    CheckDType(op, name, tensor, DType::kI32);
  }
  for (const auto& [name, tensor] : {std::pair{"k", args.k}, {"v", args.v}, {"o", args.o}})
    CheckDType(op, name, tensor, args.q.dtype);
  CheckDType(op, "lse", args.lse, AccumulationType(args.q.dtype));
}

}  // namespace

void AttentionFwd(const AttentionFwdArgs& args, Stream stream) {
  CheckCommon("attention_fwd", args);
  kAttentionFwd(args, stream);
}

void AttentionBwd(const AttentionBwdArgs& args, Stream stream) {
  constexpr const char* kOp = "attention_bwd";
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
  (args.add_dq ? kAttentionBwdAdd : kAttentionBwd)(args, stream);
}

int64_t LongestDeterministicDocument(const CausalSizes& sizes, Device device) {
  constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
#ifdef LACUNA_WITH_CUDA
  // Long documents go through our own kernels, where these have the sizes.
  if (device.type == DeviceType::kCuda &&
      cuda::CudnnTakes(sizes.dtype, sizes.dk, sizes.dv, device) &&
      !cuda::hopper::SupportsBackward(sizes, device))
    return LongestDeterministic(sizes.heads, sizes.groups);
#else
  static_cast<void>(sizes);
  static_cast<void>(device);
#endif
  return kAny;
}

}  // namespace lacuna::ops
