// Validation sets: in order, every token once, bytes of exactly the scored tokens.
#include "data/validation_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/data/shard_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;
using testing::ElementsAre;

std::vector<int32_t> Values(const Tensor& tensor) {
  return {tensor.data<int32_t>(), tensor.data<int32_t>() + tensor.numel()};
}

std::unique_ptr<ValidationSet> OpenSet(const TempDir& dir, int64_t sequence_length) {
  test::WriteShard(dir / "v_0.h5", {{1, 2, 3, 0}, {}, {8, 0}});
  test::WriteShard(dir / "v_1.h5", {{10, 11, 12, 13, 14, 0}});
  auto set = ValidationSet::Open({.name = "held_out", .path = dir / "v_*.h5"}, sequence_length,
                                 test::kVocabulary, test::kTokenizerHash);
  LACUNA_CHECK(set.ok(), "{}", Message(set.status()));
  return *std::move(set);
}

TEST(ValidationSet, InOrderAndPaddedAtTheEnd) {
  const TempDir dir;
  const auto set = OpenSet(dir, 5);
  EXPECT_EQ(set->name(), "held_out");
  ASSERT_EQ(set->num_samples(), 3);
  const Batch batch = *set->Load({0, 1, 2});
  EXPECT_THAT(Values(batch.ids),
              ElementsAre(1, 2, 3, 0, 8, /**/ 0, 10, 11, 12, 13, /**/ 14, 0, 0, 0, 0));
  EXPECT_THAT(Values(batch.targets),
              ElementsAre(2, 3, 0, -1, 0, /**/ -1, 11, 12, 13, 14, /**/ 0, -1, -1, -1, -1));
  EXPECT_THAT(batch.sequences.host_cu_seqlens(), ElementsAre(0, 4, 5, 6, 10, 12, 15));
  EXPECT_EQ(batch.num_target_tokens, 9);
  EXPECT_THAT(batch.tokens_per_source, ElementsAre(12));
  EXPECT_EQ(Values(set->Load({1})->ids), (std::vector<int32_t>{0, 10, 11, 12, 13}));
}

TEST(ValidationSet, BytesOfTheScoredTokens) {
  const TempDir dir;
  const auto set = OpenSet(dir, 5);
  // Token t has t % 7 bytes, the end of a document none.
  EXPECT_EQ(set->BytesOf(0), 2 + 3 + 0 + 0);
  EXPECT_EQ(set->BytesOf(1), 4 + 5 + 6 + 0);
  EXPECT_EQ(set->BytesOf(2), 0);
  // However the text is cut, the same bytes in all.
  for (const int64_t length : {1, 2, 3, 7, 100}) {
    const TempDir other;
    const auto cut = OpenSet(other, length);
    int64_t bytes = 0, targets = 0;
    for (int64_t i = 0; i < cut->num_samples(); ++i) {
      bytes += cut->BytesOf(i);
      targets += cut->Load({i})->num_target_tokens;
    }
    EXPECT_EQ(bytes, 20) << length;
    EXPECT_EQ(targets, 9) << length;
  }
}

TEST(ValidationSet, Errors) {
  const TempDir dir;
  const auto set = OpenSet(dir, 5);
  EXPECT_THROW((void)set->Load({3}), Error);
  EXPECT_THROW((void)set->BytesOf(-1), Error);
  const auto missing = ValidationSet::Open({.name = "x", .path = dir / "none.h5"}, 5,
                                           test::kVocabulary, test::kTokenizerHash);
  EXPECT_EQ(ExitCodeOf(missing.status()), ExitCode::kData);
}

}  // namespace
}  // namespace lacuna
