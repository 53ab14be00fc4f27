// One operator's implementations, a slot a device. Tables are constant-initialised in the
// operator's .cc file, where both backends are named; nothing is registered at run time.
//
//   constinit const Kernel<RmsNormFwdArgs> kRmsNormFwd{"rms_norm_fwd", "x w =y =rstd",
//     cpu::RmsNormFwd, LACUNA_IF_CUDA(cuda::RmsNormFwd)};
//   kRmsNormFwd({.x = ...}, stream);
//
// The second string names the tensors of Args, which come first in it, in order of declaration:
// read, or `=` set, `+` read and written, `?` set to a choice (ids, blocks) that rounding may tip.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/error.h"
#include "core/profile_range.h"
#include "core/tensor_ref.h"

#ifdef LACUNA_WITH_CUDA
#define LACUNA_IF_CUDA(function) function
#else
#define LACUNA_IF_CUDA(function) nullptr
#endif

namespace lacuna {

enum class Access : uint8_t { kRead, kSet, kUpdate, kChoice };

struct Argument {
  std::string_view name;
  Access access = Access::kRead;
};

// The names and accesses of a kernel's tensors.
class ArgumentList {
 public:
  static constexpr size_t kMax = 16;

  consteval ArgumentList(const char* text) {
    for (std::string_view rest = text; !rest.empty();) {
      const size_t end = std::min(rest.find(' '), rest.size());
      std::string_view name = rest.substr(0, end);
      Access access = Access::kRead;
      if (name[0] == '=') access = Access::kSet;
      if (name[0] == '+') access = Access::kUpdate;
      if (name[0] == '?') access = Access::kChoice;
      if (access != Access::kRead) name.remove_prefix(1);
      arguments_[size_++] = {name, access};
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  constexpr const Argument* begin() const { return arguments_; }
  constexpr const Argument* end() const { return arguments_ + size_; }
  constexpr size_t size() const { return size_; }

 private:
  Argument arguments_[kMax];
  size_t size_ = 0;
};

// A call as an observer sees it, whatever the operator.
struct KernelCall {
  const char* name;
  const ArgumentList& arguments;
  std::vector<TensorRef> tensors;  // one an argument, undefined where an optional one is left out
  Stream stream;
  // The same operator with these tensors instead, on the CPU.
  std::function<void(const std::vector<TensorRef>&)> run_on_cpu;
};

// Sees every kernel call of its thread while it is installed (core/cuda/parity.h,
// core/repeat_checker.h).
class KernelObserver {
 public:
  virtual ~KernelObserver() = default;
  // Has to call `run` once.
  virtual void OnCall(const KernelCall& call, const std::function<void()>& run) = 0;

  // The thread's observer; null for none.
  static KernelObserver*& Current() {
    thread_local KernelObserver* current = nullptr;
    return current;
  }
};

// Installs an observer for the life of the scope.
class ObserveKernels {
 public:
  explicit ObserveKernels(KernelObserver& observer)
      : before_(std::exchange(KernelObserver::Current(), &observer)) {}
  ~ObserveKernels() { KernelObserver::Current() = before_; }
  ObserveKernels(const ObserveKernels&) = delete;
  ObserveKernels& operator=(const ObserveKernels&) = delete;

 private:
  KernelObserver* before_;
};

template <class Args>
struct Kernel {
  static_assert(std::is_standard_layout_v<Args> && std::is_trivially_copyable_v<Args>);
  using Function = void (*)(const Args&, Stream);

  const char* name;
  ArgumentList arguments;
  Function cpu;
  Function cuda;

  void operator()(const Args& args, Stream stream) const {
    const ProfileRange range(name);
    const bool on_cpu = stream.device.type == DeviceType::kCpu;
    const Function function = on_cpu ? cpu : cuda;
    LACUNA_CHECK(function != nullptr, "{}: no {} kernel in this build", name,
                 on_cpu ? "CPU" : "CUDA");
    for (size_t i = 0; i < arguments.size(); ++i) {
      const TensorRef tensor = TensorOf(args, i);
      LACUNA_CHECK(!tensor.defined() || tensor.device == stream.device,
                   "{}: {} is on another device than the stream", name, arguments.begin()[i].name);
    }
    KernelObserver* const observer = KernelObserver::Current();
    if (observer == nullptr) return function(args, stream);
    Observe(*observer, args, stream, function);
  }

 private:
  static TensorRef TensorOf(const Args& args, size_t i) {
    TensorRef tensor;
    std::memcpy(&tensor, reinterpret_cast<const char*>(&args) + i * sizeof(TensorRef),
                sizeof(TensorRef));
    return tensor;
  }

  void Observe(KernelObserver& observer, const Args& args, Stream stream, Function function) const {
    KernelCall call{name, arguments, {}, stream, {}};
    for (size_t i = 0; i < arguments.size(); ++i) call.tensors.push_back(TensorOf(args, i));
    call.run_on_cpu = [this, args](const std::vector<TensorRef>& tensors) {
      Args on_cpu = args;
      std::memcpy(static_cast<void*>(&on_cpu), tensors.data(), tensors.size() * sizeof(TensorRef));
      cpu(on_cpu, kCpuStream);
    };
    observer.OnCall(call, [&] { function(args, stream); });
  }
};

}  // namespace lacuna
