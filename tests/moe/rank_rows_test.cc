// Tokens by rank, and choices that are none.
#include "moe/rank_rows.h"

#include <gtest/gtest.h>

#include "core/tensor.h"
#include "moe/expert_load.h"
#include "moe/permute.h"

namespace lacuna {
namespace {

using Doubles = std::vector<double>;

// 6 experts on 3 ranks: token 0 goes to ranks 0 and 2, token 1 twice to rank 0, token 2 to rank 2.
TEST(RankRows, ThereAndBack) {
  const Tensor ids = Tensor::FromVector(std::vector<int32_t>{1, 4, 0, 1, 5, 4}, {3, 2}),
               weights = Tensor::FromVector(Doubles{1, 2, 3, 4, 5, 6}, {3, 2});
  Tensor ranks = Tensor::Empty({3, 3}, DType::kI32), position = Tensor::EmptyLike(ranks),
         offsets = Tensor::Empty({4}, DType::kI64), counts = Tensor::Empty({3, 2}, DType::kI64),
         load = Tensor::Empty({1, 6}, DType::kF64);
  ops::TokenRanks({.ids = ids.Ref(), .ranks = ranks.MutableRef(), .num_experts = 6}, kCpuStream);
  EXPECT_EQ(ranks.ToDoubles(), (Doubles{0, -1, 2, 0, -1, -1, -1, -1, 2}));
  ops::SortByExpert({.ids = ranks.Ref(),
                     .offsets = offsets.MutableRef(),
                     .position = position.MutableRef(),
                     .may_be_none = true},
                    kCpuStream);
  EXPECT_EQ(position.ToDoubles(), (Doubles{0, -1, 2, 1, -1, -1, -1, -1, 3}));
  EXPECT_EQ(offsets.ToDoubles(), (Doubles{0, 2, 2, 4}));
  ops::CountChoices({.ids = ids.Ref(), .counts = load.MutableRef()}, kCpuStream);
  ops::RankCounts({.offsets = offsets.Ref(), .load = load.Ref(), .counts = counts.MutableRef()},
                  kCpuStream);
  EXPECT_EQ(counts.ToDoubles(), (Doubles{2, 3, 0, 0, 2, 3}));

  Tensor sent_ids = Tensor::Empty({4, 2}, DType::kI32), sent = Tensor::Empty({4, 2}, DType::kF64),
         back = Tensor::EmptyLike(weights);
  ops::SendChoices({.ids = ids.Ref(),
                    .weights = weights.Ref(),
                    .position = position.Ref(),
                    .sent_ids = sent_ids.MutableRef(),
                    .sent_weights = sent.MutableRef(),
                    .num_experts = 6},
                   kCpuStream);
  EXPECT_EQ(sent_ids.ToDoubles(), (Doubles{1, -1, 0, 1, -1, 0, 1, 0}));
  EXPECT_EQ(sent.ToDoubles(), (Doubles{1, 0, 3, 4, 0, 2, 5, 6}));
  ops::ReturnWeights({.sent_weights = sent.Ref(),
                      .ids = ids.Ref(),
                      .position = position.Ref(),
                      .weights = back.MutableRef(),
                      .num_experts = 6},
                     kCpuStream);
  EXPECT_EQ(back.ToDoubles(), weights.ToDoubles());
}

// The same choices in two chunks: token 0, and tokens 1 and 2.
TEST(RankRows, ByChunk) {
  const Tensor ids = Tensor::FromVector(std::vector<int32_t>{1, 4, 0, 1, 5, 4}, {3, 2}),
               weights = Tensor::FromVector(Doubles{1, 2, 3, 4, 5, 6}, {3, 2});
  Tensor ranks = Tensor::Empty({3, 3}, DType::kI32), position = Tensor::EmptyLike(ranks),
         offsets = Tensor::Empty({7}, DType::kI64), counts = Tensor::Empty({3, 3}, DType::kI64),
         load = Tensor::Empty({1, 6}, DType::kF64);
  ops::TokenRanks({.ids = ids.Ref(), .ranks = ranks.MutableRef(), .num_experts = 6, .chunks = 2},
                  kCpuStream);
  EXPECT_EQ(ranks.ToDoubles(), (Doubles{0, -1, 2, 3, -1, -1, -1, -1, 5}));
  ops::SortByExpert({.ids = ranks.Ref(),
                     .offsets = offsets.MutableRef(),
                     .position = position.MutableRef(),
                     .may_be_none = true},
                    kCpuStream);
  EXPECT_EQ(position.ToDoubles(), (Doubles{0, -1, 1, 2, -1, -1, -1, -1, 3}));
  ops::CountChoices({.ids = ids.Ref(), .counts = load.MutableRef()}, kCpuStream);
  ops::RankCounts({.offsets = offsets.Ref(), .load = load.Ref(), .counts = counts.MutableRef()},
                  kCpuStream);
  EXPECT_EQ(counts.ToDoubles(), (Doubles{1, 1, 3, 0, 0, 0, 1, 1, 3}));
  Tensor sent_ids = Tensor::Empty({4, 2}, DType::kI32), sent = Tensor::Empty({4, 2}, DType::kF64);
  ops::SendChoices({.ids = ids.Ref(),
                    .weights = weights.Ref(),
                    .position = position.Ref(),
                    .sent_ids = sent_ids.MutableRef(),
                    .sent_weights = sent.MutableRef(),
                    .num_experts = 6,
                    .chunks = 2},
                   kCpuStream);
  EXPECT_EQ(sent_ids.ToDoubles(), (Doubles{2, -1, -1, 0, 1, 3, 3, 1}));
  EXPECT_EQ(sent.ToDoubles(), (Doubles{1, 0, 0, 2, 3, 4, 5, 6}));
}

TEST(RankRows, ChunksAreThoseOfTheirFormula) {
  for (const int64_t tokens : {1, 2, 7, 64}) {
    for (const int64_t chunks : {1, 2, 3, 5, 16}) {
      EXPECT_EQ(ChunkBegin(0, tokens, chunks), 0);
      EXPECT_EQ(ChunkBegin(chunks, tokens, chunks), tokens);
      for (int64_t n = 0; n < tokens; ++n) {
        const int64_t p = ChunkOf(n, tokens, chunks);
        EXPECT_LE(ChunkBegin(p, tokens, chunks), n);
        EXPECT_LT(n, ChunkBegin(p + 1, tokens, chunks));
      }
    }
  }
}

TEST(RankRows, RowsOfNoChoiceArePassedOver) {
  const Tensor x = Tensor::FromVector(Doubles{1, 2}, {2, 1}),
               position = Tensor::FromVector(std::vector<int32_t>{1, -1, -1, 0}, {2, 2});
  Tensor there = Tensor::Empty({2, 1}, DType::kF64), back = Tensor::Empty({2, 1}, DType::kF64);
  ops::PermuteRows({.x = x.Ref(), .position = position.Ref(), .y = there.MutableRef()}, kCpuStream);
  EXPECT_EQ(there.ToDoubles(), (Doubles{2, 1}));
  ops::UnpermuteRows(
      {.x = there.Ref(), .position = position.Ref(), .w = {}, .y = back.MutableRef()}, kCpuStream);
  EXPECT_EQ(back.ToDoubles(), x.ToDoubles());
}

}  // namespace
}  // namespace lacuna
