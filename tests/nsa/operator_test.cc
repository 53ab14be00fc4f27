// The NSA operator against a naive reference, its gradients, its identities, and mutations that the
// comparison must catch.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/functions/attention.h"
#include "autograd/functions/rope.h"
#include "core/parallel.h"
#include "nsa/nsa_cache.h"
#include "tests/nsa/nsa_case.h"
#include "tests/reference/naive_nsa.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::Close;
using test::Mutation;
using Lists = std::vector<std::vector<std::vector<int64_t>>>;

const NsaConfig kSmall{.block = 8,
                       .stride = 4,
                       .select_block = 16,
                       .num_selected = 4,
                       .num_init = 1,
                       .num_local = 2,
                       .window = 10};

struct Sizes {
  NsaConfig config;
  std::vector<int32_t> lengths;
  int64_t heads, groups, dk, dv;
};

struct Problem {
  test::NsaCase c;
  test::PhiWithStorage phi_k, phi_v;
  test::NaiveNsaProblem naive;

  Problem(const Sizes& s, DType dtype, uint64_t seed, double yarn = 1)
      : c(test::RandomNsaCase(s.config, s.lengths, s.heads, s.groups, s.dk, s.dv, dtype, seed)),
        phi_k(s.dk, s.config, dtype, seed + 50),
        phi_v(s.dv, s.config, dtype, seed + 70) {
    if (yarn > 1)
      c.rope = {.rotary_dims = 4,
                .theta = 100.0,
                .yarn_factor = yarn,
                .yarn_original_length = 64,
                .yarn_beta_fast = 4.0};
    naive = {s.config.block,
             s.config.stride,
             s.config.select_block,
             s.config.num_selected,
             s.config.num_init,
             s.config.num_local,
             s.config.window,
             s.heads,
             s.groups,
             s.dk,
             s.dv,
             c.rope.rotary_dims,
             c.rope.theta,
             yarn,
             64,
             4,
             1,
             c.cu_seqlens,
             {}};
    for (const auto& [name, tensor] : c.in) naive.in[name] = tensor.ToDoubles();
    for (const auto& [which, phi] : {std::pair{"k", &phi_k}, {"v", &phi_v}}) {
      for (Parameter* p : phi->parameters())
        naive.in[which + p->name.substr(3)] = p->value.ToDoubles();
    }
  }
  test::NsaRun Run(const NsaOptions& options = {}) {
    return test::RunNsa(c, phi_k.phi(), phi_v.phi(), options);
  }
};

Lists ToLists(const Tensor& blocks) {
  Lists lists(static_cast<size_t>(blocks.dim(0)),
              std::vector<std::vector<int64_t>>(static_cast<size_t>(blocks.dim(1))));
  const int32_t* b = blocks.data<int32_t>();
  for (int64_t i = 0; i < blocks.numel(); ++i) {
    auto& list = lists[static_cast<size_t>(i / blocks.dim(2) / blocks.dim(1))]
                      [static_cast<size_t>(i / blocks.dim(2) % blocks.dim(1))];
    if (b[i] >= 0) list.push_back(b[i]);
  }
  return lists;
}

const std::vector<Sizes> kSetups = {
    // packed; a document of one token, T < l, T = l
    {kSmall, {70, 1, 7, 8, 23}, 4, 2, 8, 6},
    {kSmall, {101}, 4, 1, 6, 4},  // one group
    // groups = heads, Dk < Dv
    {kSmall, {85}, 3, 3, 4, 8},
    {{.block = 8,
      .stride = 2,
      .select_block = 8,
      .num_selected = 5,
      .num_init = 2,
      .num_local = 2,
      .window = 1},
     {90, 9},
     4,
     2,
     6,
     4},
    {{.block = 6,
      .stride = 6,
      .select_block = 12,
      .num_selected = 3,
      .num_init = 0,
      .num_local = 1,
      .window = 200},
     {77},
     2,
     1,
     6,
     4},
    {kSmall, {1}, 2, 1, 4, 4},
    // no compressed block at all
    {kSmall, {5, 3}, 2, 1, 4, 4},
};

TEST(NsaOperator, EqualsNaiveForwardAndBackward) {
  uint64_t seed = 100;
  bool left_out = false;
  for (const Sizes& setup : kSetups) {
    SCOPED_TRACE(seed);
    Problem p(setup, DType::kF64, seed += 100);
    const test::NsaRun run = p.Run();
    const auto naive = test::NaiveNsaForward(p.naive);
    left_out |= naive.left_out;
    EXPECT_EQ(ToLists(run.result.blocks), naive.blocks);
    EXPECT_TRUE(Close(run.result.o.value(), naive.o, test::Tolerance(DType::kF64)));
    const auto gradients = test::NaiveNsaBackward(p.naive, p.c.d_o.ToDoubles(), naive.blocks);
    for (const char* name : test::kNsaInputNames) {
      SCOPED_TRACE(name);
      EXPECT_TRUE(Close(run.gradients.at(name), gradients.at(name), test::Tolerance(DType::kF64)));
    }
    for (const auto& [which, phi] : {std::pair{"k", &p.phi_k}, {"v", &p.phi_v}}) {
      for (Parameter* parameter : phi->parameters()) {
        EXPECT_TRUE(Close(parameter->grad, gradients.at(which + parameter->name.substr(3)),
                          test::Tolerance(DType::kF64)));
      }
    }
  }
  EXPECT_TRUE(left_out) << "no query had a block to leave out: this would test full attention only";
}

// f32 and bf16 against the f64 result of the same inputs, on the same lists: at most 2 (3) times
// the error of the naive run in that dtype.
TEST(NsaOperator, LowPrecisionErrorIsNaive) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(NameOf(dtype));
    Problem p(kSetups[0], dtype, 900);
    const auto exact = test::NaiveNsaForward(p.naive);
    const auto round = [dtype](double x) {
      return dtype == DType::kF32
                 ? static_cast<double>(static_cast<float>(x))
                 : static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(x))));
    };
    const auto naive = test::NaiveNsaForward(p.naive, Mutation::kNone, round, &exact.blocks);
    std::vector<int32_t> forced;
    for (const auto& token : exact.blocks) {
      for (auto list : token) {
        list.resize(static_cast<size_t>(p.c.config.num_selected), -1);
        forced.insert(forced.end(), list.begin(), list.end());
      }
    }
    const test::NsaRun run =
        p.Run({.blocks = Tensor::FromVector(
                   forced, {p.naive.cu_seqlens.back(), p.naive.groups, p.c.config.num_selected})});
    EXPECT_TRUE(test::WithinNaiveError(run.result.o.value(), naive.o, exact.o, 2));
    const auto exact_grads = test::NaiveNsaBackward(p.naive, p.c.d_o.ToDoubles(), exact.blocks);
    const auto naive_grads =
        test::NaiveNsaBackward(p.naive, p.c.d_o.ToDoubles(), exact.blocks, round);
    for (const char* name : test::kNsaInputNames) {
      SCOPED_TRACE(name);
      EXPECT_TRUE(test::WithinNaiveError(run.gradients.at(name), naive_grads.at(name),
                                         exact_grads.at(name), 3));
    }
  }
}

// Each classic mistake, made in the reference, must show as a difference in at least one of these
// problems.
TEST(NsaOperator, MutationsAreCaught) {
  const Sizes setup{kSmall, {170, 6, 93}, 4, 2, 8, 6};
  Problem p(setup, DType::kF64, 1200, /*yarn=*/4);
  const test::NsaRun run = p.Run();
  ASSERT_TRUE(
      Close(run.result.o.value(), test::NaiveNsaForward(p.naive).o, test::Tolerance(DType::kF64)));
  for (const Mutation mutation :
       {Mutation::kWindowPlusOne, Mutation::kScoresShifted, Mutation::kScoresUnscaled,
        Mutation::kScoresMeanOfLogits, Mutation::kOneLocalBlock, Mutation::kGridIgnoresDocuments,
        Mutation::kCompressIncomplete, Mutation::kYarnOnSoftmaxScale}) {
    const auto mutated = test::NaiveNsaForward(p.naive, mutation);
    EXPECT_FALSE(Close(run.result.o.value(), mutated.o, 1e-6))
        << "mutation " << static_cast<int>(mutation) << " goes unseen";
  }
}

TEST(NsaOperator, GradCheck) {
  for (const PhiKind kind : {PhiKind::kMlp, PhiKind::kLinear, PhiKind::kMean}) {
    NsaConfig config = kSmall;
    config.phi = kind;
    Problem p({config, {75, 6}, 4, 2, 6, 4}, DType::kF64, 1500,
              /*yarn=*/kind == PhiKind::kMlp ? 4 : 1);
    const Tensor blocks = p.Run().result.blocks;
    const PackedSequences sequences(p.c.cu_seqlens);
    const auto grid = std::make_shared<const NsaGrid>(sequences, config);
    RopeTable rope(p.c.rope, DType::kF64);
    rope.Prepare(75);
    int64_t rows_with_choice = 0;
    for (const auto& token : ToLists(blocks))
      rows_with_choice += static_cast<int64_t>(token[0].size()) == config.num_selected;
    ASSERT_GT(rows_with_choice, 5);
    std::vector<Tensor> inputs;
    for (const char* name : test::kNsaInputNames) inputs.push_back(p.c.in.at(name));
    std::vector<Parameter*> parameters = p.phi_k.parameters();
    for (Parameter* parameter : p.phi_v.parameters()) parameters.push_back(parameter);
    EXPECT_TRUE(test::GradCheck(
        [&](Tape& tape, const std::vector<Variable>& in) {
          const NsaInputs x{in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7]};
          return std::vector<Variable>{NsaOperator(tape, x, p.phi_k.phi(), p.phi_v.phi(), grid,
                                                   rope, config, {.blocks = blocks})
                                           .o};
        },
        inputs, parameters));
  }
}

// Sum over the blocks of s = (l/d) (H/G) wherever a compressed block is visible, and 0 elsewhere.
TEST(NsaOperator, ScoresSumToTheirShare) {
  Problem p(kSetups[0], DType::kF64, 1600);
  const test::NsaRun run = p.Run({.blocks = {}, .scores = true});
  const std::vector<double> scores = run.result.scores.ToDoubles();
  const PackedSequences sequences(p.c.cu_seqlens);
  const int32_t* positions = sequences.positions().data<int32_t>();
  const int64_t width = run.result.scores.dim(2);
  for (int64_t i = 0; i < run.result.scores.dim(0) * 2; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < width; ++j) sum += scores[static_cast<size_t>(i * width + j)];
    EXPECT_NEAR(sum, NumCompressed(positions[i / 2] + 1, 8, 4) > 0 ? 2.0 * 2.0 : 0.0, 1e-12);
  }
}

// Dense attention on one branch's keys and values.
Tensor Dense(const Problem& p, const std::string& branch) {
  const PackedSequences sequences(p.c.cu_seqlens);
  RopeTable rope(p.c.rope, DType::kF64);
  rope.Prepare(p.c.longest());
  Tape tape(Tape::Mode::kInference);
  const Variable q = Rope(tape, Variable(p.c.in.at("q")), sequences.positions(), rope);
  const Variable k = Rope(tape, Variable(p.c.in.at("k_" + branch)), sequences.positions(), rope);
  return AttentionOverRanges(tape, q, k, Variable(p.c.in.at("v_" + branch)),
                             CausalRanges(sequences), 1 / std::sqrt(static_cast<double>(q.dim(2))))
      .value();
}

void SetGates(Problem* p, const std::vector<double>& gates) {
  std::vector<double> all;
  for (int64_t i = 0; i < p->c.in.at("gate").numel() / 3; ++i)
    all.insert(all.end(), gates.begin(), gates.end());
  p->c.in["gate"] = Tensor::FromDoubles(all, p->c.in.at("gate").shape(), DType::kF64);
}

void ExpectClosedGatesLearn(const test::NsaRun& run, const std::vector<double>& gates) {
  const std::vector<double> dgate = run.gradients.at("gate").ToDoubles();
  for (size_t c = 0; c < 3; ++c) {
    double sum = 0;
    for (size_t i = c; i < dgate.size(); i += 3) sum += std::abs(dgate[i]);
    EXPECT_GT(sum, 0) << "gate " << c << " at " << gates[c] << " has no gradient";
  }
}

TEST(NsaIdentities, DenseThroughEachBranch) {
  for (const double yarn : {1.0, 4.0}) {
    {  // all blocks selected
      NsaConfig config = kSmall;
      config.num_selected = 6;
      Problem p({config, {77, 12}, 4, 2, 6, 4}, DType::kF64, 1700, yarn);
      SetGates(&p, {0, 1, 0});
      const test::NsaRun run = p.Run();
      EXPECT_TRUE(Close(run.result.o.value(), Dense(p, "slc"), test::Tolerance(DType::kF64)));
      ExpectClosedGatesLearn(run, {0, 1, 0});
    }
    {  // w >= T; w = T - 1 differs at t = T - 1 only
      NsaConfig config = kSmall;
      config.window = 77;
      Problem p({config, {77, 12}, 4, 2, 6, 4}, DType::kF64, 1800, yarn);
      SetGates(&p, {0, 0, 1});
      const Tensor dense = Dense(p, "win");
      const test::NsaRun run = p.Run();
      EXPECT_TRUE(Close(run.result.o.value(), dense, test::Tolerance(DType::kF64)));
      ExpectClosedGatesLearn(run, {0, 0, 1});
      p.c.config.window = 76;
      const Tensor shorter = p.Run().result.o.value();
      EXPECT_TRUE(Close(shorter.Slice(0, 76), dense.Slice(0, 76), test::Tolerance(DType::kF64)));
      EXPECT_TRUE(Close(shorter.Slice(77, 89), dense.Slice(77, 89), test::Tolerance(DType::kF64)));
      EXPECT_FALSE(Close(shorter.Slice(76, 77), dense.Slice(76, 77), 1e-6));
    }
    {  // l = d = 1, mean
      NsaConfig config = kSmall;
      config.block = config.stride = 1;
      config.phi = PhiKind::kMean;
      Problem p({config, {40, 12}, 4, 2, 6, 4}, DType::kF64, 1900, yarn);
      SetGates(&p, {1, 0, 0});
      const test::NsaRun run = p.Run();
      EXPECT_TRUE(Close(run.result.o.value(), Dense(p, "cmp"), test::Tolerance(DType::kF64)));
      ExpectClosedGatesLearn(run, {1, 0, 0});
    }
  }
}

// l = d = l': a block's score is the probability of its own compressed row, summed over the heads.
TEST(NsaIdentities, EqualBlocksScoreTheirProbability) {
  NsaConfig config = kSmall;
  config.block = config.stride = config.select_block = 8;
  Problem p({config, {60}, 2, 2, 6, 4}, DType::kF64, 2000);
  const test::NsaRun run = p.Run({.blocks = {}, .scores = true});
  const test::NaiveNsaResult naive = test::NaiveNsaForward(p.naive);
  RopeTable rope(p.c.rope, DType::kF64);
  rope.Prepare(60);
  Tape tape(Tape::Mode::kInference);
  const std::vector<double> q =
      Rope(tape, Variable(p.c.in.at("q")), PackedSequences::Single(60).positions(), rope)
          .value()
          .ToDoubles();
  const std::vector<double> k = run.result.k_cmp.ToDoubles(),
                            scores = run.result.scores.ToDoubles();
  const size_t t = 59, blocks = 7;
  for (size_t g = 0; g < 2; ++g) {
    std::vector<double> e;
    double sum = 0;
    for (size_t i = 0; i < blocks; ++i) {
      double dot = 0;
      for (size_t c = 0; c < 6; ++c) dot += q[(t * 2 + g) * 6 + c] * k[(i * 2 + g) * 6 + c];
      e.push_back(std::exp(dot / std::sqrt(6.0)));
      sum += e.back();
    }
    for (size_t i = 0; i < blocks; ++i) EXPECT_NEAR(scores[(t * 2 + g) * 8 + i], e[i] / sum, 1e-12);
  }
}

// Given equal inputs, a packed document has the bits it has alone, with one thread or two.
TEST(NsaOperator, PackedDocumentsAreBitwiseAlone) {
  const std::vector<int32_t> lengths = {150, 1, 37, 8, 203};
  Problem packed({kSmall, lengths, 4, 2, 8, 6}, DType::kF32, 2100);
  const test::NsaRun together = packed.Run();
  const int threads = NumThreads();
  SetNumThreads(1);
  for (size_t d = 0; d < lengths.size(); ++d) {
    const int64_t begin = packed.c.cu_seqlens[d], end = packed.c.cu_seqlens[d + 1];
    test::NsaCase alone = packed.c;
    alone.cu_seqlens = {0, lengths[d]};
    for (auto& [name, tensor] : alone.in) tensor = tensor.Slice(begin, end).Clone();
    alone.d_o = alone.d_o.Slice(begin, end).Clone();
    const test::NsaRun run = test::RunNsa(alone, packed.phi_k.phi(), packed.phi_v.phi());
    EXPECT_TRUE(test::SameBits(together.result.o.value().Slice(begin, end), run.result.o.value()))
        << "document " << d;
    for (const char* name : test::kNsaInputNames) {
      EXPECT_TRUE(
          test::SameBits(together.gradients.at(name).Slice(begin, end), run.gradients.at(name)))
          << name << " of document " << d;
    }
  }
  SetNumThreads(threads);
}

// Tokens a decode step reads: Tc(s) + (min(n, blocks) - 1) l' + the own block's + the window's.
TEST(NsaCache, TokensRead) {
  Problem p({kSmall, {120}, 4, 2, 8, 6}, DType::kF64, 2200);
  RopeTable rope(p.c.rope, DType::kF64);
  rope.Prepare(120);
  NsaCache cache(kSmall);
  for (int64_t t = 0; t < 120; ++t) {
    std::map<std::string, Variable> row;
    for (const char* name : test::kNsaInputNames)
      row[name] = Variable(p.c.in.at(name).Slice(t, t + 1));
    test::DecodeTogether({&cache}, test::MakeInputs(row), kSmall, p.phi_k.phi(), p.phi_v.phi(),
                         rope);
    const int64_t s = t + 1, blocks = std::min<int64_t>(4, (s - 1) / 16 + 1);
    ASSERT_EQ(cache.tokens_read(), NumCompressed(s, 8, 4) + (blocks - 1) * 16 + (s - 1) % 16 + 1 +
                                       std::min<int64_t>(10, s));
  }
}

}  // namespace
}  // namespace lacuna
