// Tokens by rank on CUDA: every kernel of the exchange against the CPU's, experts whose tokens have
// choices elsewhere, and the layer behind an exchange of one rank.
#include <gtest/gtest.h>

#include "distributed/communicator.h"
#include "moe/expert_load.h"
#include "moe/permute.h"
#include "moe/rank_rows.h"
#include "tests/moe/moe_fixture.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"

namespace lacuna {
namespace {

using test::CudaStream;
using test::MoeFixture;
using test::OnDevice;
using test::RandomIds;
using test::RandomTensor;
using test::SameBits;

struct Case {
  int64_t tokens, chosen, experts, ranks, chunks = 1;
};
// No token; one; one rank; more choices than ranks and fewer; a training step's numbers, but for the
// tokens: sums of thousands of rows round otherwise in tensor cores than one after the other. Some
// in chunks.
const std::vector<Case> kCases = {{0, 2, 4, 2},       {1, 1, 2, 2},       {37, 3, 9, 1},
                                  {70, 6, 8, 2},      {300, 2, 64, 8},    {1024, 6, 72, 8},
                                  {0, 2, 4, 2, 2},    {1, 1, 2, 2, 3},    {70, 6, 8, 2, 3},
                                  {300, 2, 64, 8, 2}, {1024, 6, 72, 8, 2}};

RoutedRows Sort(const Tensor& ids, int64_t experts) {
  RoutedRows rows{.offsets = Tensor::Empty({experts + 1}, DType::kI64, ids.device()),
                  .position = Tensor::EmptyLike(ids)};
  ops::SortByExpert({.ids = ids.Ref(),
                     .offsets = rows.offsets.MutableRef(),
                     .position = rows.position.MutableRef(),
                     .may_be_none = true},
                    CudaStream());
  rows.num_choices = static_cast<int64_t>(rows.offsets.ToDoubles().back());
  return rows;
}

// What all ranks are sent together, by rank.
struct Sent {
  Tensor ids, weights;
  RoutedRows by_rank;
};
Sent Send(const Case& c, const Tensor& ids, const Tensor& weights) {
  Tensor ranks = OnDevice(Tensor::Empty({c.tokens, c.ranks}, DType::kI32)),
         load = OnDevice(Tensor::Empty({1, c.experts}, DType::kF64)),
         counts = OnDevice(Tensor::Empty({c.ranks, c.chunks + 1}, DType::kI64));
  ops::TokenRanks(
      {.ids = ids.Ref(), .ranks = ranks.MutableRef(), .num_experts = c.experts, .chunks = c.chunks},
      CudaStream());
  Sent sent{.ids = {}, .weights = {}, .by_rank = Sort(ranks, c.ranks * c.chunks)};
  ops::CountChoices({.ids = ids.Ref(), .counts = load.MutableRef()}, CudaStream());
  ops::RankCounts(
      {.offsets = sent.by_rank.offsets.Ref(), .load = load.Ref(), .counts = counts.MutableRef()},
      CudaStream());
  const int64_t rows = sent.by_rank.num_choices;
  sent.ids = Tensor::Empty({rows, c.chosen}, DType::kI32, CudaDevice());
  sent.weights = Tensor::Empty({rows, c.chosen}, DType::kF32, CudaDevice());
  ops::SendChoices({.ids = ids.Ref(),
                    .weights = weights.Ref(),
                    .position = sent.by_rank.position.Ref(),
                    .sent_ids = sent.ids.MutableRef(),
                    .sent_weights = sent.weights.MutableRef(),
                    .num_experts = c.experts,
                    .chunks = c.chunks},
                   CudaStream());
  return sent;
}

TEST(CudaExpertParallel, KernelsEqualTheCpus) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << c.tokens << " x " << c.chosen << ", " << c.experts
                                    << " experts on " << c.ranks);
    const test::CudaParity parity;
    const Tensor ids =
                     OnDevice(RandomIds({c.tokens, c.chosen}, static_cast<int32_t>(c.experts), 1)),
                 weights = OnDevice(RandomTensor({c.tokens, c.chosen}, DType::kF32, 2));
    const Sent sent = Send(c, ids, weights);
    Tensor back = Tensor::EmptyLike(weights);
    ops::ReturnWeights({.sent_weights = sent.weights.Ref(),
                        .ids = ids.Ref(),
                        .position = sent.by_rank.position.Ref(),
                        .weights = back.MutableRef(),
                        .num_experts = c.experts},
                       CudaStream());
    EXPECT_TRUE(SameBits(back.To(kCpu), weights.To(kCpu)));
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Tensor x = OnDevice(RandomTensor({c.tokens, 40}, dtype, 3));
      Tensor there = Tensor::Empty({sent.by_rank.num_choices, 40}, dtype, CudaDevice()),
             sum = Tensor::EmptyLike(x);
      const TensorRef position = sent.by_rank.position.Ref();
      ops::PermuteRows({.x = x.Ref(), .position = position, .y = there.MutableRef()}, CudaStream());
      ops::UnpermuteRows({.x = there.Ref(), .position = position, .w = {}, .y = sum.MutableRef()},
                         CudaStream());
    }
  }
}

// Forward and backward of experts to which some choices of their tokens do not go, in widths for
// the tensor cores and in others.
TEST(CudaExpertParallel, ExpertsOfChoicesThatAreNone) {
  for (const Case& c : kCases) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int64_t width : {64, 20}) {
        SCOPED_TRACE(testing::Message() << c.tokens << " x " << c.chosen << ", " << c.experts
                                        << " on " << c.ranks << ", " << NameOf(dtype) << width);
        const Tensor ids = OnDevice(
                         RandomIds({c.tokens, c.chosen}, static_cast<int32_t>(c.experts), 1)),
                     weights = OnDevice(RandomTensor({c.tokens, c.chosen}, DType::kF32, 2));
        const Sent sent = Send(c, ids, weights);
        const int64_t rows = sent.by_rank.num_choices, here = c.experts / c.ranks;
        Experts experts(here, width, width + 8, 0.3, 0.3);
        experts.SetName("experts");
        FlatParameters flat(experts, dtype, 1, /*gradients=*/true, CudaDevice());
        std::vector<Tensor> gradients;
        for (int pass = 0; pass < 2; ++pass) {
          flat.ZeroGrad();
          const test::CudaParity parity;
          Tape tape(Tape::Mode::kRecord, CudaStream());
          const Variable x = tape.Leaf(OnDevice(RandomTensor({rows, width}, dtype, 3))),
                         w = tape.Leaf(sent.weights);
          RoutedRows routed = Sort(sent.ids, here * c.chunks);
          const std::vector<double> begins = sent.by_rank.offsets.ToDoubles();
          for (int64_t p = 0; p <= c.chunks && c.chunks > 1; ++p)
            routed.chunk_begins.push_back(
                static_cast<int64_t>(begins[static_cast<size_t>(p * c.ranks)]));
          const Variable y = experts.Forward(tape, {x, w, routed});
          tape.Backward({{y, OnDevice(RandomTensor({rows, width}, dtype, 4))}});
          gradients.push_back(flat.grad().To(kCpu).Clone());
          gradients.push_back(tape.Grad(w).To(kCpu).Clone());
        }
        EXPECT_TRUE(SameBits(gradients[2], gradients[0]));
        EXPECT_TRUE(SameBits(gradients[3], gradients[1]));
      }
    }
  }
}

// A group of one rank moves the same rows: the bits are those of the layer without an exchange, with
// chunks but for the order of rows in the gradients of the experts' matrices, and the host waits once in
// a step, for the counts.
TEST(CudaExpertParallel, OneRankHasTheBitsOfTheLocalLayer) {
  const MoeConfig config{
      .num_experts = 9, .experts_per_token = 3, .expert_width = 40, .num_shared = 1};
  const auto group = MakeSelfCommunicator();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t rows : {96, 1, 0}) {
      SCOPED_TRACE(testing::Message() << rows << " " << NameOf(dtype));
      const Tensor x = OnDevice(RandomTensor({rows, 48}, dtype, 1)),
                   dy = OnDevice(RandomTensor({rows, 48}, dtype, 2));
      for (const auto& [recompute, chunks] :
           {std::pair<bool, int64_t>{false, 1}, {true, 1}, {false, 2}, {true, 3}}) {
        MoeFixture local(48, config, dtype, 1, CudaDevice()),
            f(48, config, dtype, 1, CudaDevice(), group.get(), chunks);
        for (MoeFixture* one : {&local, &f}) {
          one->Step(x, dy);  // loads the kernels
          one->flat().ZeroGrad();
        }
        const std::vector<Tensor> expected = local.Step(x, dy);
        const int64_t waits = NumHostWaits();
        const std::vector<Tensor> out = f.Step(x, dy, {.recompute = recompute});
        EXPECT_EQ(NumHostWaits() - waits, 1);
        EXPECT_TRUE(SameBits(out[0].To(kCpu), expected[0].To(kCpu)));
        EXPECT_TRUE(SameBits(out[1].To(kCpu), expected[1].To(kCpu)));
        const Tensor gradients = f.flat().grad().To(kCpu), of_local = local.flat().grad().To(kCpu);
        if (chunks == 1) {
          EXPECT_TRUE(SameBits(gradients, of_local));
        } else {
          EXPECT_TRUE(test::Close(gradients, of_local, test::Tolerance(DType::kF32)));
        }
      }
    }
  }
}

}  // namespace
}  // namespace lacuna
