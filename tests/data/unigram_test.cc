// The unigram baseline against its formula.
#include "data/unigram.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "tests/data/shard_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

TEST(UnigramModel, CountsTargetsAndSmooths) {
  const test::TempDir dir;
  test::WriteShard(dir / "train.h5", {{1, 2, 2, 0}, {3, 0}});
  test::WriteShard(dir / "validation.h5", {{2, 2, 9, 0}});
  std::vector<std::string> problems;
  const CorpusRequirements requirements{.vocab_size = test::kVocabulary,
                                        .tokenizer_hash = test::kTokenizerHash};
  const TokenCorpus train = TokenCorpus::Open(dir / "train.h5", requirements, &problems);
  ASSERT_TRUE(problems.empty());
  const auto set = *ValidationSet::Open({.name = "v", .path = dir / "validation.h5"}, 3,
                                        test::kVocabulary, test::kTokenizerHash);
  UnigramModel model(test::kVocabulary);
  model.Count(train);
  // Targets of training: 2, 2, 0, 0. Scored: 2 (2 bytes), 9 (2 bytes), 0 (none).
  const double bits = -std::log2(3.0 / 1004) - std::log2(1.0 / 1004) - std::log2(3.0 / 1004);
  EXPECT_NEAR(model.BitsPerByte(*set), bits / 4, 1e-12);
  UnigramModel small(10);
  EXPECT_THROW(small.Count(train), Error);
}

TEST(UnigramModel, MaskedTokensAreNoTargets) {
  const test::TempDir dir;
  test::WriteShard(dir / "masked.h5", {{1, 2, 2, 9, 0}}, test::ShardInfo(), {{1, 0, 0, 1, 0}});
  std::vector<std::string> problems;
  const TokenCorpus corpus =
      TokenCorpus::Open(dir / "masked.h5", {test::kVocabulary, test::kTokenizerHash}, &problems);
  ASSERT_TRUE(problems.empty());
  const auto set = *ValidationSet::Open({.name = "v", .path = dir / "masked.h5"}, 5,
                                        test::kVocabulary, test::kTokenizerHash);
  UnigramModel model(test::kVocabulary);
  model.Count(corpus);
  EXPECT_NEAR(model.BitsPerByte(*set), -std::log2(2.0 / 1001) / 2, 1e-12);  // 9, of two bytes
}

}  // namespace
}  // namespace lacuna
