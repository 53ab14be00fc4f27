// One operator's implementations, a slot a device. Tables are constant-initialised in the
// operator's .cc file, where both backends are named; nothing is registered at run time.
//
//   constinit const Kernel<RmsNormFwdArgs> kRmsNormFwd{"rms_norm_fwd", cpu::RmsNormFwd,
//     LACUNA_IF_CUDA(cuda::RmsNormFwd)};
//   kRmsNormFwd({.x = ...}, stream);
#pragma once

#include "core/device.h"
#include "core/error.h"

#ifdef LACUNA_WITH_CUDA
#define LACUNA_IF_CUDA(function) function
#else
#define LACUNA_IF_CUDA(function) nullptr
#endif

namespace lacuna {

template <class Args>
struct Kernel {
  using Function = void (*)(const Args&, Stream);

  const char* name;
  Function cpu;
  Function cuda;

  void operator()(const Args& args, Stream stream) const {
    const Function function = stream.device.type == DeviceType::kCpu ? cpu : cuda;
    LACUNA_CHECK(function != nullptr, "{}: no {} kernel in this build", name,
                 stream.device.type == DeviceType::kCpu ? "CPU" : "CUDA");
    function(args, stream);
  }
};

}  // namespace lacuna
