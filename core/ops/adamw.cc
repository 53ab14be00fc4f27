#include "core/ops/adamw.h"

#include <cmath>

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna {

template <class A>
AdamWFactors<A> AdamWFactors<A>::Of(const AdamWArgs& args) {
  const double t = static_cast<double>(args.step);
  return {.beta1 = static_cast<A>(args.beta1),
          .beta2 = static_cast<A>(args.beta2),
          .step = static_cast<A>(args.learning_rate / (1 - std::pow(args.beta1, t))),
          .correction = static_cast<A>(1 / (1 - std::pow(args.beta2, t))),
          .decay = static_cast<A>(args.learning_rate * args.weight_decay),
          .eps = static_cast<A>(args.eps)};
}
template struct AdamWFactors<float>;
template struct AdamWFactors<double>;

namespace ops {
namespace {
constinit const Kernel<AdamWArgs> kAdamW{"adamw", "+master =value grad +m +v gradient_scale",
                                         cpu::AdamW, LACUNA_IF_CUDA(cuda::AdamW)};
}  // namespace

void AdamW(const AdamWArgs& args, Stream stream) {
  const int64_t n = args.master.numel();
  for (const auto& [name, tensor] : {std::pair{"grad", args.grad}, {"m", args.m}, {"v", args.v}}) {
    LACUNA_CHECK(tensor.numel() == n, "adamw: {} is {}, master {}", name, Describe(tensor),
                 Describe(args.master));
  }
  CheckDType("adamw", "grad", args.grad, args.master.dtype);
  LACUNA_CHECK(args.m.dtype == args.master.dtype || args.m.dtype == DType::kBF16,
               "adamw: m is {}, master {}", Describe(args.m), Describe(args.master));
  CheckDType("adamw", "v", args.v, args.m.dtype);
  LACUNA_CHECK(args.value.numel() == n && AccumulationType(args.value.dtype) == args.master.dtype,
               "adamw: value is {}, master {}", Describe(args.value), Describe(args.master));
  CheckShape("adamw", "gradient_scale", args.gradient_scale, {1});
  CheckDType("adamw", "gradient_scale", args.gradient_scale, DType::kF64);
  LACUNA_CHECK(args.step >= 1, "adamw: step {} counts from 1", args.step);
  kAdamW(args, stream);
}

}  // namespace ops
}  // namespace lacuna
