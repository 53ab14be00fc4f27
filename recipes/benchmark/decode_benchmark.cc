#include "recipes/benchmark/decode_benchmark.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/stream.h"
#include "nn/flat_parameters.h"
#include "nn/gqa_cache.h"
#include "nsa/decode_branches.h"
#include "nsa/nsa_cache.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/benchmark/op_benchmark.h"
#include "recipes/model_builder.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/graph.h"
#endif

namespace lacuna {
namespace {

constexpr DType kType = DType::kBF16;

// The sequences of a batch, as often as it takes to leave nothing of a step in the L2 cache.
template <class Cache>
using CacheSets = std::vector<std::vector<std::unique_ptr<Cache>>>;

int64_t NumSets(const ModelConfig& m, int64_t batch, int64_t tokens, int64_t steps) {
  constexpr int64_t kBeyondCache = 400'000'000;
  const int64_t bytes = batch * tokens * m.num_groups * (m.head_dim_qk + m.head_dim_v) * 2;
  return std::clamp<int64_t>((kBeyondCache + bytes - 1) / bytes, 1, steps);
}

// The step in which each of `batch` sequences gets its token number `length`.
std::vector<NewToken> NewTokens(int64_t batch, int64_t length) {
  std::vector<NewToken> tokens;
  for (int64_t i = 0; i < batch; ++i) tokens.push_back({i, length});
  return tokens;
}

// `run(i)`: step i of `steps`.
void Time(int64_t steps, const std::function<void(int64_t)>& run, [[maybe_unused]] Device device,
          DeviceTimer& timer, DecodeResult* result) {
  const auto all = [&] {
    for (int64_t i = 0; i < steps; ++i) run(i);
  };
  const auto per_step = static_cast<double>(steps);
  result->milliseconds = timer.Measure(BenchCall{[&](int64_t) { all(); }}).milliseconds / per_step;
#ifdef LACUNA_WITH_CUDA
  if (device.type == DeviceType::kCuda) {
    const cuda::CapturedWork work = cuda::Capture(ComputeStream(device), all);
    result->kernels = static_cast<double>(work.num_kernels()) / per_step;
  }
#endif
}

struct Inputs {
  NsaInputs in;
  Tensor o;
};
Inputs RandomInputs(const ModelConfig& m, int64_t batch, Device device) {
  uint64_t seed = 10;
  const auto rows = [&](int64_t heads, int64_t width) {
    return Variable(NormalTensor({batch, heads, width}, kType, device, ++seed));
  };
  const auto key = [&] { return rows(m.num_groups, m.head_dim_qk); };
  const auto value = [&] { return rows(m.num_groups, m.head_dim_v); };
  NsaInputs in;
  in.q = rows(m.num_heads, m.head_dim_qk);
  in.k_cmp = key();
  in.v_cmp = value();
  in.k_slc = key();
  in.v_slc = value();
  in.k_win = key();
  in.v_win = value();
  in.gate = Variable(FilledTensor({batch, m.num_heads, 3}, AccumulationType(kType), device, 0.5));
  return {in, Tensor::Empty({batch, m.num_heads, m.head_dim_v}, kType, device)};
}

double StepBytes(const ModelConfig& m, int64_t batch, double tokens_read) {
  return 2 * static_cast<double>(batch * m.num_groups * (m.head_dim_qk + m.head_dim_v)) *
         tokens_read;
}

}  // namespace

DecodeResult MeasureDecodeFull(const BenchSizes& sizes, int64_t batch, int64_t tokens,
                               Device device, DeviceTimer& timer) {
  const ModelConfig& m = sizes.model;
  const int64_t steps = sizes.nsa.stride, before = tokens - steps;
  const Inputs inputs = RandomInputs(m, batch, device);
  const Variable &k = inputs.in.k_slc, &v = inputs.in.v_slc;
  CacheSets<KeyValueCache> sets(static_cast<size_t>(NumSets(m, batch, tokens, steps)));
  std::vector<Tensor> addresses;
  {
    // All rows are there; a step sets its own again.
    const Tensor keys = NormalTensor({tokens, m.num_groups, m.head_dim_qk}, kType, device, 1),
                 values = NormalTensor({tokens, m.num_groups, m.head_dim_v}, kType, device, 2);
    for (auto& set : sets) {
      std::vector<int64_t> columns;
      for (int64_t i = 0; i < batch; ++i) {
        auto cache = std::make_unique<KeyValueCache>();
        cache->k.Append(keys);
        cache->v.Append(values);
        columns.push_back(AddressOf(cache->k.data()));
        columns.push_back(AddressOf(cache->v.data()));
        set.push_back(std::move(cache));
      }
      addresses.push_back(AddressTable().Update(columns, 2, device));
    }
  }
  RopeTable rope(RopeSpecOf(m), kType, device);
  rope.Prepare(tokens);
  DecodeResult result{.op = "decode_full", .batch = batch, .tokens = tokens};
  std::vector<DecodeTokens> tables;
  for (int64_t i = 1; i <= steps; ++i) {
    tables.emplace_back(NewTokens(batch, before + i), device);
    result.tokens_read += static_cast<double>(before + i) / static_cast<double>(steps);
  }
  result.bytes = StepBytes(m, batch, result.tokens_read);
  const double scale = 1 / std::sqrt(static_cast<double>(m.head_dim_qk));
  Tensor o = inputs.o;
  Time(
      steps,
      [&](int64_t i) {
        DecodeGqa(inputs.in.q.value(), k.value(), v.value(), tables[static_cast<size_t>(i)],
                  addresses[static_cast<size_t>(i) % sets.size()], &rope, scale,
                  ComputeStream(device), &o);
      },
      device, timer, &result);
  return result;
}

DecodeResult MeasureDecodeNsa(const BenchSizes& sizes, int64_t batch, int64_t tokens, Device device,
                              DeviceTimer& timer) {
  const ModelConfig& m = sizes.model;
  const NsaConfig& nsa = sizes.nsa;
  const int64_t steps = nsa.stride, before = tokens - steps,
                compressed = NumCompressed(tokens, nsa.block, nsa.stride);
  const Inputs inputs = RandomInputs(m, batch, device);
  CacheSets<NsaCache> sets(static_cast<size_t>(NumSets(m, batch, tokens, steps)));
  std::vector<Tensor> addresses;
  {
    const auto random = [&](int64_t rows, int64_t width, uint64_t seed) {
      return NormalTensor({rows, m.num_groups, width}, kType, device, seed);
    };
    NsaInputs prompt;  // all tokens, one key and value for all branches; a step sets its rows again
    prompt.k_cmp = Variable(random(tokens, m.head_dim_qk, 1));
    prompt.v_cmp = prompt.v_slc = prompt.v_win = Variable(random(tokens, m.head_dim_v, 2));
    NsaResult of_prompt;
    of_prompt.k_slc = of_prompt.k_win = prompt.k_cmp.value();
    of_prompt.k_cmp = random(compressed, m.head_dim_qk, 3);
    of_prompt.v_cmp = random(compressed, m.head_dim_v, 4);
    for (auto& set : sets) {
      std::vector<int64_t> columns;
      for (int64_t i = 0; i < batch; ++i) {
        set.push_back(std::make_unique<NsaCache>(nsa));
        set.back()->FillFromPrompt(prompt, of_prompt);
        set.back()->AddAddresses(&columns);
      }
      addresses.push_back(AddressTable().Update(columns, kNumCacheColumns, device));
    }
  }
  RopeTable rope(RopeSpecOf(m), kType, device);
  rope.Prepare(tokens);
  Phi phi_k(m.head_dim_qk, nsa), phi_v(m.head_dim_v, nsa);
  phi_k.SetName("phi_k");
  phi_v.SetName("phi_v");
  const FlatParameters of_k(phi_k, kType, 1, /*gradients=*/false, device),
      of_v(phi_v, kType, 2, /*gradients=*/false, device);
  DecodeResult result{.op = "decode_nsa", .batch = batch, .tokens = tokens};
  std::vector<NsaStep> tables;
  for (int64_t i = 1; i <= steps; ++i) {
    tables.emplace_back(nsa, NewTokens(batch, before + i), device);
    result.tokens_read +=
        static_cast<double>(TokensOfDecodeStep(nsa, before + i)) / static_cast<double>(steps);
  }
  result.bytes = StepBytes(m, batch, result.tokens_read);
  Tensor o = inputs.o,
         blocks = Tensor::Empty({batch, m.num_groups, nsa.num_selected}, DType::kI32, device);
  Time(
      steps,
      [&](int64_t i) {
        DecodeNsa(inputs.in, tables[static_cast<size_t>(i)],
                  addresses[static_cast<size_t>(i) % sets.size()], nsa, phi_k, phi_v, rope,
                  ComputeStream(device), &o, &blocks);
      },
      device, timer, &result);
  return result;
}

}  // namespace lacuna
