// The ways of sharing a model among ranks that the self-test trains in (recipes/trainer/self_test.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/device.h"
#include "core/dtype.h"
#include "recipes/trainer/self_test.h"

namespace lacuna {

inline constexpr int64_t kSelfTestRows = 192;  // tokens of a sample

struct SelfTestWay {
  DType dtype;
  int expert;  // ranks that share the experts
  int zero;
  bool recompute;
  int context = 1;  // ranks that share a sample
  int shard = 0;    // over which shares are cut, 0: all

  std::string Describe() const;  // "f32, experts over 4 ranks, zero 2, recompute"
};

// All ways among `ranks` ranks, or those that options.dtype and options.match ask for; ConfigError
// where that is none.
absl::StatusOr<std::vector<SelfTestWay>> ChosenWays(int ranks, Device device,
                                                    const SelfTestOptions& options);

}  // namespace lacuna
