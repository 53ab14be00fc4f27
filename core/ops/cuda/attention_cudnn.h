// Attention through cuDNN, for what it does faster than our own kernels, or they have not: bf16,
// causal or windowed within packed documents, on Hopper, cuDNN 9.14 or newer (9.10.0 and 9.10.1 are wrong; the fault
// of 9.14.0 is with windows that are not causal, which are not asked for). POD only.
//
// A plan is made (cuDNN compiles it) at the first call of its sizes, in a second or two. Packed
// documents are done by length class (core/ops/attention_split.h), each class with one plan for all
// batches of a run, so few plans are made; those that a call lacks are made side by side. One
// document whose length is a multiple of 128 has its own plan, without tables of offsets.
//
// Determinism. Forward is deterministic. cuDNN's deterministic backward keeps all of dP, which gets
// at most kMaxDeterministicBytes, so documents and groups of heads take turns (64 heads, one
// document of 8192 tokens: two turns). Where one group of one document needs more
// (LongestDeterministic: 16 heads a group, above 11520 tokens), or where the call does without, dq
// is summed by atomics, in one turn, and its last bits differ from run to run; a warning says so,
// unless it was asked for.
#pragma once

#include <cstdint>

#include "core/ops/attention.h"

namespace lacuna::cuda {

#ifdef LACUNA_WITH_CUDNN

// How cuDNN would do a call.
struct CudnnPlan {
  bool usable = false;          // else the sizes or the device are not for it, or cuDNN refuses
  bool deterministic = true;    // two runs give the same bits
  int64_t turns = 1;            // parts of the heads, one after the other, at most
  int64_t runs = 0;             // of cuDNN, turns and parts of the documents together
  int64_t workspace_bytes = 0;  // that a run needs beside our tensors, at most
};
CudnnPlan CudnnPlanOf(const AttentionFwdArgs& args, Stream stream);
CudnnPlan CudnnPlanOf(const AttentionBwdArgs& args, Stream stream);
// Whether causal attention of these sizes goes through cuDNN, as far as is known before a call.
bool CudnnTakes(DType dtype, int64_t dk, int64_t dv, Device device);
// Plans that the device has so far.
int64_t NumCudnnPlans(Device device);

// False, and nothing done, where the call is not for cuDNN.
bool CudnnAttentionFwd(const AttentionFwdArgs& args, Stream stream);
bool CudnnAttentionBwd(const AttentionBwdArgs& args, Stream stream);

#else

inline bool CudnnTakes(DType, int64_t, int64_t, Device) {
  return false;
}
inline bool CudnnAttentionFwd(const AttentionFwdArgs&, Stream) {
  return false;
}
inline bool CudnnAttentionBwd(const AttentionBwdArgs&, Stream) {
  return false;
}

#endif

}  // namespace lacuna::cuda
