// Attention through cuDNN, for what it does faster than our own kernels: bf16, causal or windowed
// within packed documents, on Hopper, cuDNN 9.14 or newer (9.10.0 and 9.10.1 are wrong; the fault
// of 9.14.0 is with windows that are not causal, which are not asked for). POD only.
//
// A plan is made (cuDNN compiles it) at the first call of its sizes, in a second or two; numbers
// and lengths of packed documents are rounded up, so that few plans serve all batches of a run. One
// document whose length is a multiple of 128 has its own plan, without tables of offsets.
//
// Determinism. Forward is deterministic. cuDNN's deterministic backward keeps all of dP, 2 bytes *
// documents * heads * length^2 (rounded up as above), so groups of heads take turns where that is
// more than kMaxDeterministicBytes (64 heads, one document of 8192 tokens: two turns). Where one
// group alone needs more (16 heads a group: 11586 tokens; with several documents fewer), dq is
// summed by atomics and its last bits differ from run to run; a warning says so when the plan is
// made.
#pragma once

#include <cstdint>

#include "core/ops/attention.h"

namespace lacuna::cuda {

inline constexpr int64_t kMaxDeterministicBytes = int64_t{4} << 30;

#ifdef LACUNA_WITH_CUDNN

// How cuDNN would do a call.
struct CudnnPlan {
  bool usable = false;          // else the sizes or the device are not for it, or cuDNN refuses
  bool deterministic = true;    // two runs give the same bits
  int64_t turns = 1;            // parts of the heads, one after the other
  int64_t workspace_bytes = 0;  // that a turn needs beside our tensors
};
CudnnPlan CudnnPlanOf(const AttentionFwdArgs& args, Stream stream);
CudnnPlan CudnnPlanOf(const AttentionBwdArgs& args, Stream stream);

inline bool SupportsCudnn(const AttentionFwdArgs& args, Stream stream) {
  return CudnnPlanOf(args, stream).usable;
}
inline bool SupportsCudnn(const AttentionBwdArgs& args, Stream stream) {
  return CudnnPlanOf(args, stream).usable;
}

// Of calls that SupportsCudnn.
void CudnnAttentionFwd(const AttentionFwdArgs& args, Stream stream);
void CudnnAttentionBwd(const AttentionBwdArgs& args, Stream stream);

#else

inline bool SupportsCudnn(const AttentionFwdArgs&, Stream) {
  return false;
}
inline bool SupportsCudnn(const AttentionBwdArgs&, Stream) {
  return false;
}
inline void CudnnAttentionFwd(const AttentionFwdArgs&, Stream) {}
inline void CudnnAttentionBwd(const AttentionBwdArgs&, Stream) {}

#endif

}  // namespace lacuna::cuda
