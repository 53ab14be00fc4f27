// Lists of the tokens that chose each block against the plain definition, and what the chunks of them
// promise: every token once, no more sums than there is memory for, the same for a document alone.
#include "tests/emulation/chosen_lists.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace lacuna::cuda {
namespace {

struct Sample {
  int groups, rep, places, select_block;
  std::vector<int32_t> cu = {0}, blocks;

  Sample(int num_groups, int rows, int num_places, int block, const std::vector<int>& lengths,
         unsigned seed)
      : groups(num_groups), rep(rows), places(num_places), select_block(block) {
    for (const int length : lengths) {
      std::mt19937 random(seed + static_cast<unsigned>(length));
      for (int t = 0; t < length; ++t) {
        for (int g = 0; g < groups; ++g) {
          std::set<int32_t> chosen = {0, t / block};
          for (int i = 2; i < places; ++i)
            chosen.insert(static_cast<int>(random() % (t / block + 1)));
          for (const int32_t b : chosen) blocks.push_back(b);
          blocks.resize(blocks.size() + places - chosen.size(), -1);
        }
      }
      cu.push_back(cu.back() + length);
    }
  }
  AttentionSizes sizes() const {
    return {.heads = groups * rep,
            .groups = groups,
            .rep = rep,
            .dk = 64,
            .dv = 64,
            .documents = static_cast<int>(cu.size()) - 1,
            .queries = cu.back(),
            .keys = cu.back(),
            .cu_queries = cu.data(),
            .cu_keys = cu.data(),
            .scale = 1};
  }
  // Those of a group's block, as ListSizes numbers the blocks.
  std::map<int64_t, std::vector<int32_t>> Expected(int64_t num_blocks) const {
    std::map<int64_t, std::vector<int32_t>> lists;
    for (int d = 0; d + 1 < static_cast<int>(cu.size()); ++d)
      for (int n = cu[d]; n < cu[d + 1]; ++n)
        for (int i = 0; i < groups * places; ++i) {
          const int32_t block = blocks[n * groups * places + i];
          if (block >= 0)
            lists[i / places * num_blocks + cu[d] / select_block + d + block].push_back(n);
        }
    return lists;
  }
};

void Check(const Sample& sample, int64_t chunk_rows) {
  const AttentionSizes s = sample.sizes();
  const ChosenLists chosen(s, sample.blocks, sample.places, sample.select_block, chunk_rows, 5);
  auto expected = sample.Expected(chosen.sizes.num_blocks);
  std::map<int, std::map<int, bool>> covered;
  int64_t place_before = 0;
  bool ended = false;
  for (const Chunk& chunk : chosen.chunks) {
    ASSERT_GE(chunk.list, -1);
    ended |= chunk.list < 0;
    ASSERT_EQ(ended, chunk.list < 0);
    if (ended) continue;
    EXPECT_TRUE(covered[chunk.list].emplace(chunk.index, true).second);
    // Group by group those that end last come first, to within a class; small ones last of all.
    const std::vector<int32_t>& tokens = expected[chunk.list];
    const auto size = static_cast<int64_t>(tokens.size());
    const int64_t end = FirstOfChunk(size, chunk.index + 1, chosen.of_list[chunk.list].count),
                  group = chunk.list / chosen.sizes.num_blocks,
                  place = size < chosen.sizes.LeastChunkTokens() / 2
                              ? s.groups * s.queries
                              : group * s.queries + s.queries - 1 - tokens[end - 1];
    EXPECT_GE(place, place_before - s.queries * s.groups / kPlanClasses - 1);
    place_before = std::max(place_before, place);
  }
  std::set<int> sums;
  for (int list = 0; list < static_cast<int>(chosen.of_list.size()); ++list) {
    const std::vector<int32_t> tokens(chosen.tokens.begin() + chosen.starts[list],
                                      chosen.tokens.begin() + chosen.starts[list + 1]);
    EXPECT_EQ(tokens, expected[list]) << "list " << list;
    const auto [count, first] = chosen.of_list[list];
    EXPECT_EQ(count == 0, tokens.empty());
    EXPECT_EQ(covered[list].size(), static_cast<size_t>(count));
    if (count < 2) continue;
    EXPECT_EQ(FirstOfChunk(static_cast<int64_t>(tokens.size()), count, count),
              static_cast<int64_t>(tokens.size()));
    EXPECT_GE(static_cast<int64_t>(tokens.size()), count * chosen.sizes.LeastChunkTokens());
    for (int i = 0; i < count; ++i) EXPECT_TRUE(sums.insert(first + i).second);
  }
  EXPECT_LE(static_cast<int64_t>(sums.size()), s.groups * chosen.sizes.MaxSums());
  if (!sums.empty()) {
    EXPECT_EQ(*sums.rbegin() + 1, static_cast<int>(sums.size()));
  }
}

TEST(ChosenLists, AreTheTokensThatChoseABlock) {
  Check(Sample(2, 16, 5, 16, {70, 0, 1, 300}, 1), 512);
  Check(Sample(1, 1, 3, 8, {257}, 2), 32);
  Check(Sample(3, 70, 4, 4, {40, 90}, 3), 4096);
  Check(Sample(4, 16, 16, 64, {3000}, 4), kChunkRows);
}
TEST(ChosenLists, NobodyChoseAnything) {
  Sample sample(1, 8, 2, 16, {50}, 1);
  sample.blocks.assign(sample.blocks.size(), -1);
  Check(sample, 64);
}
TEST(ChosenLists, HaveTheChunksOfTheDocumentAlone) {
  const Sample together(2, 16, 4, 8, {900, 333}, 7), alone(2, 16, 4, 8, {333}, 7);
  const ChosenLists a(together.sizes(), together.blocks, 4, 8, 256, 1),
      b(alone.sizes(), alone.blocks, 4, 8, 256, 2);
  const int64_t before = 900 / 8 + 1;
  for (int g = 0; g < 2; ++g)
    for (int j = 0; j < (333 + 7) / 8; ++j)
      EXPECT_EQ(a.of_list[g * a.sizes.num_blocks + before + j].count,
                b.of_list[g * b.sizes.num_blocks + j].count);
}
// At the lengths of the largest models: sums of a call, of 192 / 128 wide heads in 4 groups.
TEST(ChosenLists, SumsStayBelowHalfAGigabyte) {
  for (const int64_t tokens : {65536, 262144, 1 << 20}) {
    const ListSizes sizes{{.groups = 4, .rep = 16, .documents = 1, .queries = tokens},
                          16,
                          64,
                          tokens / 64 + 1,
                          nullptr,
                          nullptr};
    EXPECT_LT(4 * sizes.MaxSums() * 64 * 320 * 4, int64_t{1} << 29);
  }
}

}  // namespace
}  // namespace lacuna::cuda
