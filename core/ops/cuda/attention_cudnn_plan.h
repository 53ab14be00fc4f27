// One plan of cuDNN's attention (scaled dot-product attention of its graph interface), made by
// cudnn-frontend. The first of the heuristic's plans that the device can run: never one found by
// timing.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <string>

#include "core/device.h"
#include "core/ops/cuda/attention_cudnn_layout.h"

namespace lacuna::cuda {

// A plan serves every call whose sizes it covers. All tensors bf16 rows of heads, lse f32.
struct SdpaShape {
  bool backward = false;
  bool deterministic = false;     // of a backward plan
  int64_t documents = 0;          // of rows anywhere, some empty; 0: one of exactly `length` tokens
  int64_t length = 0;             // tokens of the longest document, or more
  int64_t rows = 0;               // that the tensors have, or more
  int64_t heads = 0, groups = 0;  // that one run computes
  int64_t row_heads = 0, row_groups = 0;  // that a row of q and of k holds
  int64_t dk = 0, dv = 0;
  int64_t window = 0;  // 0: all tokens before
  float scale = 1;

  auto operator<=>(const SdpaShape&) const = default;
};

// First rows and heads. lse is [rows, row_heads] of packed documents, [heads, length] of one.
struct SdpaTensors {
  void *q, *k, *v, *o, *lse;
  void *d_o = nullptr, *dq = nullptr, *dk = nullptr, *dv = nullptr;  // backward only
};

class SdpaPlan {
 public:
  // Null where cuDNN refuses; then `failure` says why. Several threads may make plans at the same
  // time, each with a number of its own (core/cuda/dnn.h).
  static std::unique_ptr<SdpaPlan> Make(const SdpaShape& shape, Stream stream, size_t thread,
                                        std::string* failure);
  ~SdpaPlan();

  int64_t workspace_bytes() const { return workspace_bytes_; }
  // `documents` is null where there is one of exactly `length` tokens.
  void Run(const SdpaTensors& tensors, const RaggedLayout* documents, void* workspace,
           Stream stream) const;

 private:
  struct Graph;
  SdpaPlan();

  std::unique_ptr<Graph> graph_;
  int64_t workspace_bytes_ = 0;
};

}  // namespace lacuna::cuda
