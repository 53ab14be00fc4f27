#include "nsa/gate_combine.h"

#include <cmath>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

template <class T>
void Forward(const GateCombineFwdArgs& args) {
  using A = ComputeType<T>;
  const int64_t width = args.o.dim(2);
  const A* gate = args.gate.As<A>();
  const T *cmp = args.o_cmp.As<T>(), *slc = args.o_slc.As<T>(), *win = args.o_win.As<T>();
  T* o = args.o.As<T>();
  ParallelForChunks(args.o.dim(0) * args.o.dim(1), 128, 6 * width, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const A a = gate[3 * r], b = gate[3 * r + 1], c = gate[3 * r + 2];
      for (int64_t i = r * width; i < (r + 1) * width; ++i)
        o[i] = Narrow<T>(a * Widen(cmp[i]) + b * Widen(slc[i]) + c * Widen(win[i]));
    }
  });
}

template <class T>
void Backward(const GateCombineBwdArgs& args) {
  using A = ComputeType<T>;
  const int64_t rows = args.d_o.dim(0) * args.d_o.dim(1), width = args.d_o.dim(2);
  const A* gate = args.gate.As<A>();
  const T* d_o = args.d_o.As<T>();
  A *dgate = args.dgate.As<A>(), *delta = args.delta.As<A>(), *weighted = args.weighted_lse.As<A>();
  const T* branches[] = {args.o_cmp.As<T>(), args.o_slc.As<T>(), args.o_win.As<T>()};
  const A* lse[] = {args.lse_cmp.As<A>(), args.lse_slc.As<A>(), args.lse_win.As<A>()};
  ParallelForChunks(rows, 128, 6 * width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int c = 0; c < 3; ++c) {
        A sum = 0;
        for (int64_t i = r * width; i < (r + 1) * width; ++i)
          sum += static_cast<A>(Widen(d_o[i])) * Widen(branches[c][i]);
        dgate[3 * r + c] = delta[c * rows + r] = sum;
        weighted[c * rows + r] =
            std::isinf(lse[c][r]) ? lse[c][r] : lse[c][r] - std::log(gate[3 * r + c]);
      }
    }
  });
}

}  // namespace

void GateCombineFwd(const GateCombineFwdArgs& args, Stream) {
  DispatchFloat(args.o.dtype, [&](auto tag) { Forward<typename decltype(tag)::type>(args); });
}

void GateCombineBwd(const GateCombineBwdArgs& args, Stream) {
  DispatchFloat(args.d_o.dtype, [&](auto tag) { Backward<typename decltype(tag)::type>(args); });
}

}  // namespace lacuna::cpu
