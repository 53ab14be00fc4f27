#include "recipes/benchmark/block_lists.h"

#include <algorithm>
#include <set>

#include "core/random.h"

namespace lacuna {
namespace {

// Draws of one document and group, in the order they are asked for.
class Draws {
 public:
  Draws(uint64_t seed, int64_t group) : seed_(seed), group_(static_cast<uint64_t>(group)) {}
  double Uniform() { return PhiloxUniform(seed_, group_, next_++); }
  // In [begin, end).
  int32_t Between(int64_t begin, int64_t end) {
    return static_cast<int32_t>(begin + static_cast<int64_t>(Uniform() * double(end - begin)));
  }

 private:
  uint64_t seed_, group_, next_ = 0;
};

}  // namespace

BlockLists LocalLists(int64_t tokens, int64_t groups, const NsaConfig& config, double keep,
                      uint64_t seed) {
  const int64_t places = config.num_selected;
  BlockLists lists{tokens, groups, places,
                   std::vector<int32_t>(static_cast<size_t>(tokens * groups * places), -1)};
  for (int64_t g = 0; g < groups; ++g) {
    Draws draws(seed, g);
    std::set<int32_t> free;  // of the token before
    for (int64_t t = 0; t < tokens; ++t) {
      // Blocks [0, init) and [local, own] are forced, those between compete.
      const int64_t own = t / config.select_block, init = std::min(config.num_init, own + 1),
                    local = std::max(init, own - config.num_local + 1),
                    wanted =
                        std::clamp<int64_t>(places - init - (own + 1 - local), 0, local - init);
      for (auto block = free.begin(); block != free.end();)
        block = *block < local && draws.Uniform() < keep ? std::next(block) : free.erase(block);
      if (wanted == local - init) {
        for (int64_t j = init; j < local; ++j) free.insert(static_cast<int32_t>(j));
      }
      while (static_cast<int64_t>(free.size()) < wanted) free.insert(draws.Between(init, local));
      int32_t* out = lists.blocks.data() + (t * groups + g) * places;
      for (int64_t j = 0; j < init; ++j) *out++ = static_cast<int32_t>(j);
      out = std::copy(free.begin(), free.end(), out);
      for (int64_t j = local; j <= own; ++j) *out++ = static_cast<int32_t>(j);
    }
  }
  return lists;
}

double KeepProbability(const NsaConfig& config, double share) {
  // Where there are many more blocks than places, few are drawn again.
  const int64_t tokens = 32 * config.num_selected * config.select_block;
  double low = 0, high = 1;
  for (int i = 0; i < 14; ++i) {
    const double keep = (low + high) / 2;
    const BlockLists lists = LocalLists(tokens, 1, config, keep, 1);
    const double measured = DistinctBlocks(lists, kAdjacent, tokens / 2) /
                            (kAdjacent * BlocksOfToken(lists, tokens / 2));
    (measured > share ? low : high) = keep;
  }
  return (low + high) / 2;
}

double DistinctBlocks(const BlockLists& lists, int64_t adjacent, int64_t first) {
  int64_t sum = 0, runs = 0;
  std::vector<int32_t> all;
  for (int64_t t = first; t + adjacent <= lists.tokens; t += adjacent) {
    for (int64_t g = 0; g < lists.groups; ++g) {
      all.clear();
      for (int64_t i = t; i < t + adjacent; ++i) {
        const int32_t* list = lists.blocks.data() + (i * lists.groups + g) * lists.places;
        all.insert(all.end(), list, std::find(list, list + lists.places, -1));
      }
      std::sort(all.begin(), all.end());
      sum += std::unique(all.begin(), all.end()) - all.begin();
      ++runs;
    }
  }
  return runs == 0 ? 0 : static_cast<double>(sum) / static_cast<double>(runs);
}

double BlocksOfToken(const BlockLists& lists, int64_t first) {
  const auto begin = lists.blocks.begin() + first * lists.groups * lists.places;
  const auto used = std::count_if(begin, lists.blocks.end(), [](int32_t b) { return b >= 0; });
  return static_cast<double>(used) / static_cast<double>((lists.tokens - first) * lists.groups);
}

double SelectedPairs(const BlockLists& lists, int64_t select_block) {
  int64_t pairs = 0;
  const int64_t of_token = lists.groups * lists.places;
  for (size_t i = 0; i < lists.blocks.size(); ++i) {
    if (lists.blocks[i] < 0) continue;
    const int64_t t = static_cast<int64_t>(i) / of_token;
    pairs += std::min(select_block, t + 1 - lists.blocks[i] * select_block);
  }
  return static_cast<double>(pairs) / static_cast<double>(lists.groups);
}

BlockLists FirstTokens(const BlockLists& lists, int64_t tokens) {
  const auto size = tokens * lists.groups * lists.places;
  return {tokens, lists.groups, lists.places, {lists.blocks.begin(), lists.blocks.begin() + size}};
}

}  // namespace lacuna
