// Decoding: one step of a layer's attention over the caches of a batch, full and NSA, from projected
// rows to the heads' outputs: rotation, appending, compression, scores, choice, attention, gates.
// Without the projections, which both have alike.
//
// A result is the mean of the `stride` steps that end with the sequences at `tokens` tokens each, so
// that the blocks that get complete are compressed once in it. Steps take turns with several sets of
// caches where the L2 cache would hold one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "recipes/benchmark/device_timer.h"

namespace lacuna {

struct DecodeResult {
  std::string op;  // decode_full or decode_nsa
  int64_t batch = 0, tokens = 0;
  double tokens_read = 0;  // of a sequence and KV head in a step
  double bytes = 0;        // of keys and values that a step reads
  double milliseconds = 0;
  std::optional<double> kernels = std::nullopt;  // launches of a step; of a card

  double bytes_per_second() const { return 1e3 * bytes / milliseconds; }
};

DecodeResult MeasureDecodeFull(const BenchSizes& sizes, int64_t batch, int64_t tokens,
                               Device device, DeviceTimer& timer);
DecodeResult MeasureDecodeNsa(const BenchSizes& sizes, int64_t batch, int64_t tokens, Device device,
                              DeviceTimer& timer);

}  // namespace lacuna
