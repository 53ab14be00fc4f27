#include "moe/expert_limit.h"

#include "core/error.h"

namespace lacuna::ops {

void CheckNumExperts(const char* op, int64_t experts, Stream stream) {
  LACUNA_CHECK(stream.device == kCpu || experts <= cuda::kMaxExperts,
               "{}: {} experts; the CUDA kernel takes at most {}", op, experts, cuda::kMaxExperts);
}

}  // namespace lacuna::ops
