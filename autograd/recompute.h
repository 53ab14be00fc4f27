// Recompute (activation checkpointing): a segment keeps its inputs only and runs its forward again
// during Backward.
//
// Decisions taken through Tape::Decide (routing ids, block lists, counts) are kept and replayed, so
// that both forwards agree; Tape::recomputing() is true in the second one, where nothing may be
// counted or exchanged again. The second one's outputs are not read: a rule that makes one may give
// Tensor::Meta instead.
//
// With keeps_costly results of Tape::Costly are kept, too, and not computed again (selective
// activation checkpointing, Korthikanti et al., arXiv 2205.05198).
#pragma once

#include <functional>
#include <vector>

#include "autograd/tape.h"

namespace lacuna {

using Segment = std::function<std::vector<Variable>(Tape&, const std::vector<Variable>&)>;

// outputs = segment(inputs). Values and gradients are those of calling `segment` directly.
std::vector<Variable> Recompute(Tape& tape, const char* name, std::vector<Variable> inputs,
                                const Segment& segment, bool keeps_costly = false);

}  // namespace lacuna
