// Decoding on CUDA: the operators of a step against the CPU's in f64 on the same caches, whole steps
// against the forward pass, and bits that do not depend on the batch.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/ops/cache_rows.h"
#include "core/ops/decode_attention.h"
#include "core/stream.h"
#include "nsa/decode_branches.h"
#include "nsa/nsa_grid.h"
#include "tests/nsa/decode_case.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

struct Widths {
  int64_t heads, groups, dk, dv;
};
const NsaConfig kPaper;
const NsaConfig kSmall = {.block = 8,
                          .stride = 4,
                          .select_block = 16,
                          .num_selected = 5,
                          .num_init = 1,
                          .num_local = 2,
                          .window = 20};

// Caches, queries and gates of sequences with these lengths, on a device and type of their own.
struct Batch {
  NsaConfig config;
  Widths widths;
  std::vector<int64_t> lengths;
  std::vector<Tensor> caches;  // kNumCacheColumns a sequence; those of the raw rows are empty
  Tensor q, gate;

  static Batch Random(const NsaConfig& config, const Widths& w, const std::vector<int64_t>& lengths,
                      DType dtype) {
    Batch b{config, w, lengths, {}, {}, {}};
    const auto n = static_cast<int64_t>(lengths.size());
    uint64_t seed = 1;
    b.q = test::RandomTensor({n, w.heads, w.dk}, dtype, ++seed, 2);
    b.gate = test::RandomTensor({n, w.heads, 3}, AccumulationType(dtype), ++seed);
    for (const int64_t length : lengths) {
      const int64_t rows[] = {length, NumCompressed(length, config.block, config.stride),
                              config.window, 1};
      for (const int64_t r : rows) {
        b.caches.push_back(test::RandomTensor({r, w.groups, w.dk}, dtype, ++seed));
        b.caches.push_back(test::RandomTensor({r, w.groups, w.dv}, dtype, ++seed));
      }
    }
    return b;
  }
  template <class To>
  Batch Mapped(To&& to) const {
    Batch b = *this;
    for (Tensor& cache : b.caches) cache = to(cache);
    b.q = to(q);
    b.gate = to(gate);
    return b;
  }

  // Of the given sequences (row i of q is sequence i's), in this order. `before` gets the tables of
  // the tokens and addresses and queues what comes immediately before the operator.
  test::DecodeResult Run(const std::vector<int64_t>& sequences, bool full,
                         const std::function<void(const Tensor&, const Tensor&)>& before = {}) {
    const Device device = q.device();
    std::vector<NewToken> tokens;
    std::vector<int64_t> addresses;
    for (const int64_t s : sequences) {
      tokens.push_back({s, lengths[static_cast<size_t>(s)]});
      for (int c = 0; c < kNumCacheColumns; ++c) {
        addresses.push_back(
            AddressOf(caches[static_cast<size_t>(s * kNumCacheColumns + c)].MutableRef().data));
      }
    }
    const DecodeTokens table(tokens, device);
    AddressTable address_table;
    const Tensor at = address_table.Update(addresses, kNumCacheColumns, device);
    test::DecodeResult result{
        .o = Tensor::Zeros({q.dim(0), widths.heads, widths.dv}, q.dtype(), device),
        .blocks = Tensor::Zeros(
            {static_cast<int64_t>(sequences.size()), widths.groups, config.num_selected},
            DType::kI32, device)};
    const double scale = 1 / std::sqrt(static_cast<double>(widths.dk));
    if (before) before(table.table, at);
    if (full) {
      ops::DecodeAttention({.q = q.Ref(),
                            .tokens = table.table.Ref(),
                            .addresses = at.Ref(),
                            .o = result.o.MutableRef(),
                            .scale = scale,
                            .groups = widths.groups,
                            .max_length = table.max_length,
                            .k_column = kKeySlc},
                           ComputeStream(device));
    } else {
      ops::DecodeBranches({.q = q.Ref(),
                           .gate = gate.Ref(),
                           .tokens = table.table.Ref(),
                           .addresses = at.Ref(),
                           .o = result.o.MutableRef(),
                           .blocks = result.blocks.MutableRef(),
                           .scale = scale,
                           .groups = widths.groups,
                           .max_length = table.max_length,
                           .block = config.block,
                           .stride = config.stride,
                           .select_block = config.select_block,
                           .num_init = config.num_init,
                           .num_local = config.num_local,
                           .window = config.window},
                          ComputeStream(device));
    }
    return {result.o.To(kCpu), result.blocks.To(kCpu)};
  }
  std::vector<int64_t> All() const {
    std::vector<int64_t> all;
    for (int64_t i = static_cast<int64_t>(lengths.size()) - 1; i >= 0; --i) all.push_back(i);
    return all;
  }
};

void CheckAgainstCpu(const NsaConfig& config, const Widths& w, const std::vector<int64_t>& lengths,
                     DType dtype) {
  SCOPED_TRACE(testing::Message() << NameOf(dtype) << ", " << w.heads << " heads, " << w.dk << "/"
                                  << w.dv);
  const Batch rounded = Batch::Random(config, w, lengths, dtype);
  Batch cuda = rounded.Mapped([](const Tensor&x) { return x.To(CudaDevice()); }),
        cpu = rounded.Mapped([](const Tensor&x) { return x.To(DType::kF64); });
  for (const bool full : {true, false}) {
    const test::DecodeResult x = cuda.Run(cuda.All(), full), exact = cpu.Run(cpu.All(), full);
    EXPECT_TRUE(test::SameBits(x.blocks, exact.blocks));  // zeros of full attention
    for (int64_t i = 0; i < x.o.dim(0); ++i) {
      EXPECT_TRUE(test::Close(x.o.Slice(i, i + 1), exact.o.Slice(i, i + 1), test::Tolerance(dtype)))
          << (full ? "full" : "nsa") << " at length " << lengths[static_cast<size_t>(i)];
    }
    // A sequence alone has the bits it has here.
    for (int64_t i = 0; i < x.o.dim(0); i += 3) {
      const test::DecodeResult alone = cuda.Run({i}, full);
      EXPECT_TRUE(test::SameBits(alone.o.Slice(i, i + 1), x.o.Slice(i, i + 1))) << i;
      const int64_t row = x.o.dim(0) - 1 - i;
      EXPECT_TRUE(test::SameBits(alone.blocks, x.blocks.Slice(row, row + 1))) << i;
    }
  }
}

TEST(CudaDecode, OperatorsEqualTheCpus) {
  const std::vector<int64_t> edges = {1,  31,  32,  33,  47,  48,  63,   64,  65,
                                      66, 511, 512, 513, 600, 999, 1024, 2500};
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    CheckAgainstCpu(kPaper, {64, 4, 192, 128}, edges, dtype);
    CheckAgainstCpu(kPaper, {8, 2, 128, 128}, edges, dtype);
    CheckAgainstCpu(kSmall, {32, 2, 64, 64}, edges, dtype);
    CheckAgainstCpu(kSmall, {12, 2, 40, 24}, {1, 7, 8, 9, 100, 301}, dtype);
    CheckAgainstCpu(kSmall, {32, 1, 64, 64}, {1, 60, 500}, dtype);
  }
}

// More splits than one; more candidates than a warp's registers hold.
TEST(CudaDecode, LongSequences) {
  CheckAgainstCpu(kPaper, {16, 1, 192, 128}, {40000, 9, 70001}, DType::kBF16);
}

// The kernel of the branches starts while rows are appended, and waits for them.
TEST(CudaDecode, BranchesFindTheRowsAppendedBefore) {
  constexpr int64_t kTokens = 40;
  Batch batch =
      Batch::Random(kPaper, {64, 4, 192, 128}, std::vector<int64_t>(kTokens, 600), DType::kBF16)
          .Mapped([](const Tensor& x) { return x.To(CudaDevice()); });
  const Stream stream = ComputeStream(CudaDevice());
  const Tensor q = batch.q,
               k = test::RandomTensor({kTokens, 4, 192}, DType::kBF16, 1).To(CudaDevice());
  RopeTable rope({.rotary_dims = 64}, DType::kBF16, CudaDevice());
  rope.Prepare(600);
  const auto run = [&](bool wait) {
    batch.q = Tensor::Zeros({kTokens, 64, 192}, DType::kBF16, CudaDevice());
    for (int64_t i = 0; i < kTokens; ++i)
      batch.caches[static_cast<size_t>(i * kNumCacheColumns + kKeyWin)].Zero();
    return batch.Run(batch.All(), false, [&](const Tensor& tokens, const Tensor& addresses) {
      ops::AppendRows(tokens.Ref(), addresses.Ref(), rope.cos().Ref(), rope.sin().Ref(),
                      {{.x = q.Ref(), .y = batch.q.MutableRef(), .rotate = true},
                       {.x = k.Ref(), .column = kKeyWin, .rotate = true, .ring = kPaper.window}},
                      stream);
      if (wait) Synchronize(stream);
    });
  };
  const test::DecodeResult expected = run(true);
  for (int i = 0; i < 10; ++i) {
    const test::DecodeResult actual = run(false);
    EXPECT_TRUE(test::SameBits(actual.o, expected.o)) << i;
    EXPECT_TRUE(test::SameBits(actual.blocks, expected.blocks)) << i;
  }
}

// Token by token behind prompts, what the whole documents give at once.
TEST(CudaDecode, BatchEqualsForward) {
  const NsaConfig config = kSmall;
  const test::NsaCase c =
      test::RandomNsaCase(config, {150, 20, 1, 97}, 4, 2, 32, 16, DType::kF32, 7).To(CudaDevice());
  test::PhiWithStorage phi_k(32, config, DType::kF32, 1), phi_v(16, config, DType::kF32, 2);
  phi_k.MoveTo(CudaDevice());
  phi_v.MoveTo(CudaDevice());
  test::DecodeCase decode(c, {41, 0, 0, 90}, &phi_k, &phi_v);
  test::ExpectDecodeEqualsForward(&decode, 3 * test::Tolerance(DType::kF32));
}

// Rows of rings, rotated or not, and the last rows of a ring in their order.
TEST(CudaDecode, AppendedRowsEqualTheCpus) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const int64_t width : {64, 6}) {
      constexpr int64_t kBatch = 5, kGroups = 3, kRing = 7;
      const Tensor x = test::RandomTensor({kBatch, kGroups, width}, dtype, 1);
      RopeTable rope({.rotary_dims = width == 64 ? 32 : 4}, dtype),
          on_device({.rotary_dims = width == 64 ? 32 : 4}, dtype, CudaDevice());
      rope.Prepare(40);
      on_device.Prepare(40);
      const auto run = [&](const RopeTable& table, Device device) {
        const Tensor rows = x.To(device);
        Tensor rings = Tensor::Zeros({kBatch, kRing, kGroups, width}, dtype, device),
               rotated = Tensor::Zeros({kBatch, kGroups, width}, dtype, device),
               recent = Tensor::Zeros({kBatch * kRing, kGroups, width}, dtype, device);
        std::vector<NewToken> tokens;
        std::vector<int64_t> addresses;
        for (int64_t i = 0; i < kBatch; ++i) {
          tokens.push_back({kBatch - 1 - i, 8 * i + 7});
          addresses.push_back(AddressOf(rings.Slice(i, i + 1).Ref().data));
        }
        const DecodeTokens step(tokens, device);
        AddressTable address_table;
        const Tensor at = address_table.Update(addresses, 1, device);
        const CacheRows part{.x = rows.Ref(), .column = 0, .rotate = true, .ring = kRing},
            other{.x = rows.Ref(), .y = rotated.MutableRef(), .rotate = true};
        ops::AppendRows(step.table.Ref(), at.Ref(), table.cos().Ref(), table.sin().Ref(),
                        {part, other}, ComputeStream(device));
        ops::RecentRows({.tokens = step.table.Ref(),
                         .addresses = at.Ref(),
                         .y = recent.MutableRef(),
                         .column = 0,
                         .count = kRing},
                        ComputeStream(device));
        return std::vector<Tensor>{rings.To(kCpu), rotated.To(kCpu), recent.To(kCpu)};
      };
      const std::vector<Tensor> expected = run(rope, kCpu), actual = run(on_device, CudaDevice());
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(test::Close(actual[i], expected[i], test::Tolerance(dtype))) << i;
    }
  }
}

}  // namespace
}  // namespace lacuna
