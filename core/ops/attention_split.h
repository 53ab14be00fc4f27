// How a batch of packed documents is cut for attention through cuDNN (core/ops/cuda): sizes alone,
// known without a device.
//
// cuDNN's deterministic backward keeps all of dP, 2 bytes * documents * heads * length^2, and is
// given at most kMaxDeterministicBytes for it. So documents are done by length class
// (core/length_classes.h), each class with one length and one number of slots, in runs of so many
// documents (the last filled up with empty ones), and each run in as many turns, parts of the
// heads, as the memory asks for. Lengths and slots depend on the rows and heads alone, not on which
// documents there are, so few plans serve all batches of a training run. (That longest documents
// which no bound suits have lengths of their own is the exception.)
#pragma once

#include <cstdint>
#include <vector>

#include "core/length_classes.h"

namespace lacuna {

inline constexpr int64_t kMaxDeterministicBytes = int64_t{4} << 30;

struct SplitSizes {
  int64_t rows = 0, heads = 0, groups = 0;
  int64_t max_length = 0;     // of the documents
  bool bound_memory = false;  // as a deterministic backward asks for
};

// The documents of one class.
struct ClassSplit {
  int64_t longer_than = 0, at_most = 0;  // tokens of the class
  int64_t documents = 0;
  int64_t length = 0;  // tokens that a slot takes
  int64_t slots = 0;   // documents of a run
  int64_t turns = 1;
  bool bounded = false;  // turns were found in which the memory is bounded, where that is asked for

  int64_t runs() const { return (documents + slots - 1) / slots; }
};

// Classes without documents are left out.
std::vector<ClassSplit> SplitByLength(const LengthClassCounts& counts, const SplitSizes& sizes);

// Rows, rounded up, so that batches of nearly as many have the same plans.
int64_t RowsOfPlans(int64_t rows);

// The fewest turns in which `documents` of `length` tokens have the memory they need; none: 0.
int64_t DeterministicTurns(int64_t documents, int64_t heads, int64_t groups, int64_t length);

// Tokens of the longest document whose backward is deterministic: 11520 with 16 heads a group. A
// multiple of 128.
int64_t LongestDeterministic(int64_t heads, int64_t groups);

}  // namespace lacuna
