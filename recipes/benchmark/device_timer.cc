#include "recipes/benchmark/device_timer.h"

#include <algorithm>
#include <chrono>

#include "core/ops/matmul.h"
#include "core/stream.h"
#include "recipes/benchmark/benchmark_inputs.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/timer.h"
#endif

namespace lacuna {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Points in a stream's work, to be compared once the stream was waited for.
class Marks {
 public:
  Marks(int count, [[maybe_unused]] Stream stream) : times_(static_cast<size_t>(count)) {
#ifdef LACUNA_WITH_CUDA
    if (stream.device.type == DeviceType::kCuda)
      events_ = std::make_unique<cuda::Events>(count, stream);
#endif
  }
  void Set(int mark) {
#ifdef LACUNA_WITH_CUDA
    if (events_ != nullptr) return events_->Mark(mark);
#endif
    times_[static_cast<size_t>(mark)] = Clock::now();
  }
  double Milliseconds(int begin, int end) const {
#ifdef LACUNA_WITH_CUDA
    if (events_ != nullptr) return events_->Milliseconds(begin, end);
#endif
    return std::chrono::duration<double, std::milli>(times_[static_cast<size_t>(end)] -
                                                     times_[static_cast<size_t>(begin)])
        .count();
  }

 private:
  std::vector<Clock::time_point> times_;
#ifdef LACUNA_WITH_CUDA
  std::unique_ptr<cuda::Events> events_;
#endif
};

}  // namespace

DeviceTimer::DeviceTimer(Device device, double seconds) : device_(device), seconds_(seconds) {
  constexpr int64_t kScratch = int64_t{256} << 20;
  if (device.type == DeviceType::kCuda) scratch_ = Tensor::Empty({kScratch}, DType::kU8, device);
}

Timing DeviceTimer::Measure(const BenchCall& call) {
  constexpr int kMinSamples = 5, kMaxSamples = 50, kMaxCalls = 16;
  constexpr double kSample = 3e-4, kBetween = 1e-4;
  const Stream stream = ComputeStream(device_);
  int64_t next = 0;
  for (int i = 0; i < 2; ++i) call(next++);
  if (call.before) call.before(next);
  Synchronize(stream);
  const auto begin = Clock::now();
  call.call(next++);
  Synchronize(stream);
  const double estimate = std::max(1e-7, SecondsSince(begin));

  Timing timing;
  // What comes before a call stands outside the sample.
  timing.calls =
      call.before ? 1 : static_cast<int>(std::clamp(kSample / estimate, 1.0, double{kMaxCalls}));
  timing.samples =
      static_cast<int>(std::clamp(seconds_ / (estimate * (timing.calls + 1) + kBetween),
                                  double{kMinSamples}, double{kMaxSamples}));
  Marks marks(2 * timing.samples, stream);
  for (int s = 0; s < timing.samples; ++s) {
    if (scratch_.defined()) scratch_.Zero();
    call(next++);  // writes back what the scratch left in the cache
    if (call.before) call.before(next);
    marks.Set(2 * s);
    for (int i = 0; i < timing.calls; ++i) call.call(next++);
    marks.Set(2 * s + 1);
  }
  Synchronize(stream);
  std::vector<double> samples;
  for (int s = 0; s < timing.samples; ++s)
    samples.push_back(marks.Milliseconds(2 * s, 2 * s + 1) / timing.calls);
  std::sort(samples.begin(), samples.end());
  timing.milliseconds = samples[samples.size() / 2];
  return timing;
}

Timing DeviceTimer::Measure(const BenchRow& row) {
  return Measure(row.prepare());
}

Ceilings MeasureCeilings(const BenchSizes& sizes, Device device, DeviceTimer& timer) {
  const Stream stream = ComputeStream(device);
  Ceilings ceilings;
  {
    const int64_t n = sizes.square;
    const Tensor a = NormalTensor({n, n}, DType::kBF16, device, 1),
                 b = NormalTensor({n, n}, DType::kBF16, device, 2);
    Tensor c = Tensor::EmptyLike(a);
    const Timing timing = timer.Measure(BenchCall{[&](int64_t) {
      ops::MatMul({.a = a.Ref(), .b = b.Ref(), .c = c.MutableRef(), .transpose_b = true}, stream);
    }});
    ceilings.flops_per_second = 2e3 * static_cast<double>(n) * static_cast<double>(n) *
                                static_cast<double>(n) / timing.milliseconds;
  }
  const Tensor source =
      NormalTensor({sizes.copy_bytes / SizeOf(DType::kF32)}, DType::kF32, device, 3);
  Tensor target = Tensor::EmptyLike(source);
  const Timing timing = timer.Measure(BenchCall{[&](int64_t) { target.CopyFrom(source); }});
  ceilings.bytes_per_second = 2e3 * static_cast<double>(source.bytes()) / timing.milliseconds;
  return ceilings;
}

}  // namespace lacuna
