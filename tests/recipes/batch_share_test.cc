// Dealing a global batch to micro-batches and ranks: every sample once, in the same order on any
// number of ranks.
#include "recipes/trainer/batch_share.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/data/shard_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

constexpr int64_t kLength = 8;

class BatchShareTest : public testing::Test {
 protected:
  BatchShareTest() {
    test::WriteShard(dir_ / "train.h5", test::CountedDocuments({21, 3, 40, 9, 17}));
    DataConfig config;
    config.sources = {{.name = "text", .path = dir_ / "train.h5", .weight = 1.0}};
    auto loader = DataLoader::Open(config, kLength, /*seed=*/1, "pretrain", test::kVocabulary,
                                   test::kTokenizerHash, /*may_write_cache=*/false);
    LACUNA_CHECK(loader.ok(), "{}", Message(loader.status()));
    loader_ = *std::move(loader);
  }

  static std::vector<int32_t> Ids(const Batch& batch) {
    return {batch.ids.data<int32_t>(), batch.ids.data<int32_t>() + batch.ids.numel()};
  }

  test::TempDir dir_;
  std::unique_ptr<DataLoader> loader_;
};

TEST_F(BatchShareTest, EverySampleOnceInTheStreamsOrder) {
  const std::vector<int32_t> stream = Ids(*loader_->Load({5, 6, 7, 8, 9, 10, 11, 12}));
  for (const int ranks : {1, 2, 4}) {
    for (int64_t micro_batch : {int64_t{1}, int64_t{2}}) {
      std::vector<std::vector<Batch>> of_rank;
      for (int rank = 0; rank < ranks; ++rank) {
        auto share = LoadShare(*loader_, {.first_sample = 5,
                                          .global_batch = 8,
                                          .micro_batch = micro_batch,
                                          .ranks = ranks,
                                          .rank = rank});
        ASSERT_TRUE(share.ok()) << share.status();
        ASSERT_EQ(share->size(), static_cast<size_t>(8 / (ranks * micro_batch)));
        of_rank.push_back(*std::move(share));
      }
      std::vector<int32_t> dealt;
      for (size_t i = 0; i < of_rank[0].size(); ++i) {
        for (const std::vector<Batch>& batches : of_rank) {
          const std::vector<int32_t> ids = Ids(batches[i]);
          EXPECT_EQ(ids.size(), static_cast<size_t>(micro_batch * kLength));
          dealt.insert(dealt.end(), ids.begin(), ids.end());
        }
      }
      EXPECT_EQ(dealt, stream) << ranks << " ranks, micro-batches of " << micro_batch;
    }
  }
}

TEST_F(BatchShareTest, ABatchThatCannotBeDealtIsMisuse) {
  const BatchShare share{.first_sample = 0, .global_batch = 6, .micro_batch = 2, .ranks = 2};
  EXPECT_THROW((void)LoadShare(*loader_, share), Error);
}

}  // namespace
}  // namespace lacuna
