#include "core/ops/adamw.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {
constinit const Kernel<AdamWArgs> kAdamW{"adamw", "+master =value grad +m +v", cpu::AdamW,
                                         LACUNA_IF_CUDA(cuda::AdamW)};
}  // namespace

void AdamW(const AdamWArgs& args, Stream stream) {
  const int64_t n = args.master.numel();
  for (const auto& [name, tensor] : {std::pair{"grad", args.grad}, {"m", args.m}, {"v", args.v}}) {
    LACUNA_CHECK(tensor.numel() == n, "adamw: {} is {}, master {}", name, Describe(tensor),
                 Describe(args.master));
    CheckDType("adamw", name, tensor, args.master.dtype);
  }
  LACUNA_CHECK(args.value.numel() == n && AccumulationType(args.value.dtype) == args.master.dtype,
               "adamw: value is {}, master {}", Describe(args.value), Describe(args.master));
  LACUNA_CHECK(args.step >= 1, "adamw: step {} counts from 1", args.step);
  kAdamW(args, stream);
}

}  // namespace lacuna::ops
