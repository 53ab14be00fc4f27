// The stages of a pass through a language model: the embedding, each block, the final norm with the
// head. Weights that are not always here are brought for one stage while another one works.
#pragma once

#include <cstdint>

namespace lacuna {

// Is told where a pass stands; the same calls on every rank, whatever its data.
class WeightStages {
 public:
  virtual ~WeightStages() = default;
  // From here on kernels of `stage` are queued, which read its weights; then those of `next` (-1:
  // none). What other stages alone read is not needed any more.
  virtual void Begin(int64_t stage, int64_t next) = 0;
  // No weight is read any more in this pass.
  virtual void End() = 0;
};

}  // namespace lacuna
