// Which blocks the queries of one document select, as the benchmark's rows of selected attention are
// given them: what a kernel costs depends on what neighbours have in common.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nsa/nsa_config.h"

namespace lacuna {

struct BlockLists {
  int64_t tokens = 0, groups = 0, places = 0;
  std::vector<int32_t> blocks;  // [T, G, n], ascending, -1 behind the last (nsa/select_blocks.h)
};

// Lists of text, as far as its locality goes: the forced blocks, and free ones that a token keeps
// from the one before it with probability `keep` each, the others drawn evenly from the visible ones.
// A pure function of its arguments.
BlockLists LocalLists(int64_t tokens, int64_t groups, const NsaConfig& config, double keep,
                      uint64_t seed);
// The `keep` with which the blocks of kAdjacent adjacent tokens are this share of the sum of their
// lists, far from the document's start; as near as `config` comes to it.
inline constexpr int64_t kAdjacent = 4, kFarAdjacent = 12;
inline constexpr double kLocalShare = 1.0 / 3;
double KeepProbability(const NsaConfig& config, double share);

// Different blocks of `adjacent` tokens, a mean over groups and runs of so many tokens from token
// `first` on; 0 where there is no run.
double DistinctBlocks(const BlockLists& lists, int64_t adjacent, int64_t first = 0);
// Places in use of a token.
double BlocksOfToken(const BlockLists& lists, int64_t first = 0);
// Pairs (query, key) of a group, a mean over groups: keys of a token's blocks up to itself.
double SelectedPairs(const BlockLists& lists, int64_t select_block);

// NumPy's format (.npy, version 1.0): int16 [T, G, n]. Reading refuses, with the path, what is no
// such file and lists that no selection gives: descending, or of blocks behind a token.
std::string ToNpy(const BlockLists& lists);
absl::StatusOr<BlockLists> ReadNpyLists(const std::string& path, int64_t select_block);
// The first `tokens` tokens.
BlockLists FirstTokens(const BlockLists& lists, int64_t tokens);

}  // namespace lacuna
