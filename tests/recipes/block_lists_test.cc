// Lists of blocks for benchmarks: what the generator promises, and what a file of them may be.
#include "recipes/benchmark/block_lists.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "core/status.h"
#include "recipes/plan/model_size.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

const NsaConfig kSmall{.select_block = 8, .num_selected = 5, .num_init = 1, .num_local = 2};

const int32_t* ListOf(const BlockLists& lists, int64_t t, int64_t g) {
  return lists.blocks.data() + (t * lists.groups + g) * lists.places;
}

TEST(BlockLists, LocalOnesHoldTheForcedBlocksAndNoneBehindTheToken) {
  const BlockLists lists = LocalLists(400, 3, kSmall, 0.7, 1);
  ASSERT_EQ(lists.blocks.size(), 400u * 3 * 5);
  for (int64_t t = 0; t < 400; ++t) {
    const int64_t own = t / 8, count = std::min<int64_t>(5, own + 1);
    for (int64_t g = 0; g < 3; ++g) {
      const int32_t* list = ListOf(lists, t, g);
      for (int64_t i = 0; i < 5; ++i) {
        if (i >= count) {
          EXPECT_EQ(list[i], -1);
        } else if (i > 0) {
          EXPECT_GT(list[i], list[i - 1]);
        }
      }
      EXPECT_EQ(list[0], 0);
      EXPECT_EQ(list[count - 1], own);
      if (own > 0) {
        EXPECT_EQ(list[count - 2], own - 1);
      }
    }
  }
  EXPECT_EQ(lists.blocks, LocalLists(400, 3, kSmall, 0.7, 1).blocks);
  EXPECT_NE(lists.blocks, LocalLists(400, 3, kSmall, 0.7, 2).blocks);
  EXPECT_EQ(FirstTokens(lists, 100).blocks, LocalLists(100, 3, kSmall, 0.7, 1).blocks);
}

TEST(BlockLists, TheLocalityAskedForIsFound) {
  const NsaConfig paper;
  const double keep = KeepProbability(paper, kLocalShare);
  EXPECT_NEAR(keep, 0.864, 0.005);
  const BlockLists lists = LocalLists(32768, 1, paper, keep, 7);
  EXPECT_EQ(BlocksOfToken(lists, 16384), 16);
  EXPECT_NEAR(DistinctBlocks(lists, 4, 16384) / 64, kLocalShare, 0.005);
  EXPECT_GT(DistinctBlocks(lists, 12, 16384), 1.5 * DistinctBlocks(lists, 4, 16384));
  // More alike, and less.
  EXPECT_GT(KeepProbability(paper, 0.27), keep);
  EXPECT_LT(KeepProbability(paper, 0.5), keep);
}

TEST(BlockLists, DistinctBlocksOfNeighbours) {
  const BlockLists lists{4, 1, 3, {0, -1, -1, 0, 1, -1, 0, 1, 2, 0, 2, 3}};
  EXPECT_EQ(DistinctBlocks(lists, 1), 9.0 / 4);
  EXPECT_EQ(DistinctBlocks(lists, 2), (2 + 4) / 2.0);
  EXPECT_EQ(DistinctBlocks(lists, 4), 4);
  EXPECT_EQ(DistinctBlocks(lists, 12), 0);
  EXPECT_EQ(DistinctBlocks(lists, 2, 2), 4);
  EXPECT_EQ(BlocksOfToken(lists), 9.0 / 4);
  // Blocks of one token: a pair each.
  EXPECT_EQ(SelectedPairs(lists, 1), 9);
  EXPECT_EQ(SelectedPairs(LocalLists(300, 2, kSmall, 0.5, 1), 8), CountPairs(kSmall, 300).selected);
}

class BlockListsFile : public testing::Test {
 protected:
  absl::StatusOr<BlockLists> Read(const std::string& bytes, int64_t select_block = 8) {
    std::ofstream(path_, std::ios::binary) << bytes;
    return ReadNpyLists(path_, select_block);
  }
  void Refused(const std::string& bytes, const std::string& message) {
    const auto lists = Read(bytes);
    ASSERT_FALSE(lists.ok());
    EXPECT_EQ(ExitCodeOf(lists.status()), ExitCode::kData);
    EXPECT_NE(Message(lists.status()).find(path_), std::string::npos);
    EXPECT_NE(Message(lists.status()).find(message), std::string::npos) << lists.status();
  }
  test::TempDir dir_;
  std::string path_ = dir_.path() + "/lists.npy";
};

TEST_F(BlockListsFile, IsReadAsItWasWritten) {
  const BlockLists lists = LocalLists(90, 2, kSmall, 0.6, 3);
  const std::string bytes = ToNpy(lists);
  EXPECT_EQ((bytes.size() - lists.blocks.size() * 2) % 64, 0u);
  const auto read = Read(bytes);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->tokens, 90);
  EXPECT_EQ(read->groups, 2);
  EXPECT_EQ(read->places, 5);
  EXPECT_EQ(read->blocks, lists.blocks);
}

TEST_F(BlockListsFile, ThatIsNoneIsRefused) {
  const BlockLists lists = LocalLists(90, 2, kSmall, 0.6, 3);
  const std::string good = ToNpy(lists);
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string bytes = good;
    return bytes.replace(bytes.find(from), from.size(), to);
  };
  Refused("", "no NumPy file");
  Refused("PK\x03\x04 and so on", "no NumPy file");
  Refused(good.substr(0, 20), "cut short");
  Refused(good.substr(0, good.size() - 2), "1798 bytes of numbers for 90 x 2 x 5");
  Refused(changed("<i2", "<i4"), "the header is");
  Refused(changed("False", "True "), "the header is");
  Refused(changed("(90, 2, 5)", "(90, 10)  "), "the header is");
  Refused(changed("(90, 2, 5)", "(-9, 2, 5)"), "the header is");
  const auto wrong = [&](int64_t at, int32_t block) {
    BlockLists bad = lists;
    bad.blocks[static_cast<size_t>(at)] = block;
    return ToNpy(bad);
  };
  Refused(wrong(0, 1), "token 0, group 0: block 1 in place 0");
  Refused(wrong(0, -2), "token 0, group 0: block -2 in place 0");
  Refused(wrong(80 * 10 + 1, 0), "token 80, group 0: block 0 in place 1");
  Refused(wrong(80 * 10 + 5, -1), "token 80, group 1:");
  EXPECT_FALSE(Read(good, 16).ok());  // blocks of other sizes
}

// Whatever a byte becomes, an answer comes.
TEST_F(BlockListsFile, AnyByteMayBeWrong) {
  const std::string good = ToNpy(LocalLists(20, 1, kSmall, 0.6, 3));
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bytes = good;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x15);
    static_cast<void>(Read(bytes));
  }
}

}  // namespace
}  // namespace lacuna
