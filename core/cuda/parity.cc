#include "core/cuda/parity.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/cuda/memory.h"
#include "core/dispatch.h"
#include "core/ops/check.h"

namespace lacuna::cuda {
namespace {

using Bytes = std::vector<char>;

// The tensors of a call on the host, in their own types or with all floating ones in f64. Arguments
// that are one tensor share a copy.
class HostArguments {
 public:
  HostArguments(const KernelCall& call, bool in_f64) : refs_(call.tensors) {
    buffers_.resize(refs_.size());
    for (size_t i = 0; i < refs_.size(); ++i) {
      TensorRef& ref = refs_[i];
      if (!ref.defined()) continue;
      const size_t first = FirstOfTensor(call, i);
      if (first == i) {
        Bytes bytes(static_cast<size_t>(ref.numel() * SizeOf(ref.dtype)));
        CopyToHost(bytes.data(), ref.data, static_cast<int64_t>(bytes.size()), call.stream);
        buffers_[i] =
            in_f64 && IsFloating(ref.dtype) ? Widened(bytes, ref.dtype) : std::move(bytes);
      }
      if (in_f64 && IsFloating(ref.dtype)) ref.dtype = DType::kF64;
      ref.device = kCpu;
      ref.data = buffers_[first].data();
    }
  }

  const std::vector<TensorRef>& refs() const { return refs_; }

 private:
  static size_t FirstOfTensor(const KernelCall& call, size_t i) {
    for (size_t j = 0; j < i; ++j) {
      const TensorRef &a = call.tensors[j], &b = call.tensors[i];
      if (a.defined() && a.data == b.data && a.dtype == b.dtype && a.numel() == b.numel()) return j;
    }
    return i;
  }
  static Bytes Widened(const Bytes& bytes, DType dtype) {
    Bytes wide(bytes.size() / static_cast<size_t>(SizeOf(dtype)) * sizeof(double));
    DispatchFloat(dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* x = reinterpret_cast<const T*>(bytes.data());
      double* y = reinterpret_cast<double*>(wide.data());
      for (size_t i = 0; i < wide.size() / sizeof(double); ++i)
        y[i] = static_cast<double>(Widen(x[i]));
    });
    return wide;
  }

  std::vector<TensorRef> refs_;
  std::vector<Bytes> buffers_;
};

double ValueAt(const TensorRef& x, int64_t i) {
  double value = 0;
  DispatchAny(x.dtype, [&](auto tag) {
    value = static_cast<double>(Widen(x.As<typename decltype(tag)::type>()[i]));
  });
  return value;
}

// ||x - exact|| / ||exact||; inf where one is finite and the other is not, or only one is NaN.
double RelativeError(const TensorRef& x, const TensorRef& exact) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double a = ValueAt(x, i), b = ValueAt(exact, i);
    if (std::isfinite(a) && std::isfinite(b)) {
      difference += (a - b) * (a - b);
      norm += b * b;
    } else if (!(a == b || (std::isnan(a) && std::isnan(b)))) {
      return std::numeric_limits<double>::infinity();
    }
  }
  return difference == 0 ? 0 : std::sqrt(difference / std::max(norm, 1e-60));
}

double Disagreement(const TensorRef& x, const TensorRef& expected) {
  int64_t different = 0;
  for (int64_t i = 0; i < x.numel(); ++i) different += ValueAt(x, i) != ValueAt(expected, i);
  return static_cast<double>(different) / static_cast<double>(std::max<int64_t>(x.numel(), 1));
}

void Poison(const KernelCall& call) {
  for (size_t i = 0; i < call.tensors.size(); ++i) {
    const TensorRef& ref = call.tensors[i];
    const Access access = call.arguments.begin()[i].access;
    if (!ref.defined() || access == Access::kRead || access == Access::kUpdate) continue;
    // An output that is also an input keeps what is read from it.
    const bool shared =
        std::count_if(call.tensors.begin(), call.tensors.end(), [&](const TensorRef& other) {
          return other.defined() && other.data == ref.data;
        }) > 1;
    if (shared) continue;
    const Bytes nan(static_cast<size_t>(ref.numel() * SizeOf(ref.dtype)), static_cast<char>(0xFF));
    CopyToDevice(ref.data, nan.data(), static_cast<int64_t>(nan.size()), call.stream);
  }
}

}  // namespace

void ParityChecker::OnCall(const KernelCall& call, const std::function<void()>& run) {
  if (call.stream.device == kCpu) return run();
  const HostArguments exact(call, /*in_f64=*/true), same(call, /*in_f64=*/false);
  call.run_on_cpu(exact.refs());
  call.run_on_cpu(same.refs());
  Poison(call);
  run();
  const HostArguments device(call, /*in_f64=*/false);
  for (size_t i = 0; i < call.tensors.size(); ++i) {
    const Access access = call.arguments.begin()[i].access;
    const TensorRef &ours = device.refs()[i], &cpu = same.refs()[i], &truth = exact.refs()[i];
    if (!ours.defined() || access == Access::kRead || ours.numel() == 0) continue;
    if (IsFloating(ours.dtype)) {
      const double cpu_error = RelativeError(cpu, truth);
      Record(call, i, RelativeError(ours, truth), cpu_error,
             kFactor * cpu_error + Tiny(ours.dtype));
    } else {
      Record(call, i, Disagreement(ours, truth), Disagreement(cpu, truth),
             access == Access::kChoice ? kMaxDisagreement : 0);
    }
  }
}

void ParityChecker::Record(const KernelCall& call, size_t argument, double error, double cpu_error,
                           double limit) {
  const std::string name(call.arguments.begin()[argument].name);
  const TensorRef& tensor = call.tensors[argument];
  auto row = std::find_if(rows_.begin(), rows_.end(), [&](const ParityRow& r) {
    return r.kernel == call.name && r.argument == name && r.dtype == tensor.dtype;
  });
  if (row == rows_.end()) {
    ParityRow fresh;
    fresh.kernel = call.name;
    fresh.argument = name;
    fresh.dtype = tensor.dtype;
    row = rows_.insert(rows_.end(), fresh);
  }
  // !(a <= b) and not a > b: a NaN is the worst there is.
  const bool worse = row->calls == 0 || !(error - limit <= row->error - row->limit);
  ++row->calls;
  if (!worse) return;
  row->shape = ops::Describe(tensor);
  row->error = error;
  row->cpu_error = cpu_error;
  row->limit = limit;
}

bool ParityChecker::passed() const {
  return std::all_of(rows_.begin(), rows_.end(), [](const ParityRow& row) { return row.passed(); });
}

std::string ParityChecker::Table() const {
  std::string table = fmt::format("{:24}{:10}{:28}{:>6}{:>12}{:>12}{:>12}\n", "kernel", "output",
                                  "shape", "calls", "error", "CPU error", "limit");
  for (const ParityRow& row : rows_) {
    table += fmt::format("{:24}{:10}{:28}{:>6}{:>12.2e}{:>12.2e}{:>12.2e}{}\n", row.kernel,
                         row.argument, row.shape, row.calls, row.error, row.cpu_error, row.limit,
                         row.passed() ? "" : "  FAILED");
  }
  return table;
}

}  // namespace lacuna::cuda
