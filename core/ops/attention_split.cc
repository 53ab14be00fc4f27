#include "core/ops/attention_split.h"

#include <algorithm>
#include <bit>

namespace lacuna {
namespace {

constexpr int64_t kTile = 128;  // of tokens: lengths of slots are multiples of it

int64_t CeilOf(int64_t n, int64_t divisor) {
  return (n + divisor - 1) / divisor;
}
int64_t RoundUp(int64_t n, int64_t multiple) {
  return CeilOf(n, multiple) * multiple;
}

// Can the heads be cut so? The log-sum-exps of a turn start at a multiple of 16 bytes.
bool IsCut(int64_t turns, int64_t heads, int64_t groups) {
  return groups % turns == 0 && (turns == 1 || heads / turns % 4 == 0);
}

int64_t BytesOf(int64_t documents, int64_t heads, int64_t length) {
  return 2 * documents * heads * length * length;
}

// Four lengths between a power of two and the next.
int64_t RoundedLength(int64_t length) {
  const auto power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(length)));
  return RoundUp(length, std::max(kTile, power / 8));
}

int64_t LengthOfSlots(const ClassSplit& split, const SplitSizes& sizes) {
  const int64_t rows = RowsOfPlans(sizes.rows);
  const int64_t bound = std::min(split.at_most, rows);
  if (sizes.bound_memory && DeterministicTurns(1, sizes.heads, sizes.groups, bound) == 0) {
    // Even one group has too little memory for it: what there is enough for, if that will do.
    const int64_t longest = LongestDeterministic(sizes.heads, sizes.groups);
    if (sizes.max_length <= longest) return longest;
  }
  return split.at_most == kLengthClassBounds[kLengthClasses - 1]
             ? std::min(RoundedLength(sizes.max_length), rows)
             : bound;
}

// Slots and turns of a class whose length is known.
void Cut(const SplitSizes& sizes, ClassSplit& split) {
  const int64_t rows = RowsOfPlans(sizes.rows);
  // Documents of half the length fill the rows with this many.
  const int64_t wanted = CeilOf(2 * rows, split.length);
  split.slots = wanted;
  split.bounded = false;
  if (!sizes.bound_memory) return;
  // As few turns as hold a run of documents as long as the rows; else as few as hold one document.
  for (const int64_t least : {CeilOf(rows, split.length), int64_t{1}}) {
    const int64_t turns = DeterministicTurns(least, sizes.heads, sizes.groups, split.length);
    if (turns == 0) continue;
    split.turns = turns;
    split.slots = std::min(wanted, kMaxDeterministicBytes /
                                       BytesOf(1, sizes.heads / turns, split.length));
    split.bounded = true;
    return;
  }
}

}  // namespace

int64_t RowsOfPlans(int64_t rows) {
  return RoundUp(rows, 1024);
}

int64_t DeterministicTurns(int64_t documents, int64_t heads, int64_t groups, int64_t length) {
  for (int64_t turns = 1; turns <= groups; ++turns) {
    if (IsCut(turns, heads, groups) &&
        BytesOf(documents, heads / turns, length) <= kMaxDeterministicBytes) {
      return turns;
    }
  }
  return 0;
}

int64_t LongestDeterministic(int64_t heads, int64_t groups) {
  int64_t length = 0;
  while (DeterministicTurns(1, heads, groups, length + kTile) > 0) length += kTile;
  return length;
}

std::vector<ClassSplit> SplitByLength(const LengthClassCounts& counts, const SplitSizes& sizes) {
  std::vector<ClassSplit> splits;
  for (int c = 0; c < kLengthClasses; ++c) {
    ClassSplit split{.longer_than = c == 0 ? 0 : kLengthClassBounds[c - 1],
                     .at_most = kLengthClassBounds[c],
                     .documents = counts.of_class[c]};
    if (split.documents == 0) continue;
    split.length = LengthOfSlots(split, sizes);
    Cut(sizes, split);
    splits.push_back(split);
  }
  return splits;
}

}  // namespace lacuna
