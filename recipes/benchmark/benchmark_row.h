// One line of `lacuna bench cuda`: what is called, how much work that is by a formula that is printed
// beside every rate, and how its inputs come about.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "moe/moe_config.h"
#include "nn/model_config.h"
#include "nsa/nsa_config.h"

namespace lacuna {

// Which experts the rows of the grouped products and permutations go to.
enum class BenchRouting {
  kReal,    // the router's own choice for random tokens
  kForced,  // every expert equally many rows (one more or less where that does not divide)
  kZipf,    // expert e is as popular as 1 / (e + 1)
};

constexpr const char* NameOf(BenchRouting routing) {
  switch (routing) {
    case BenchRouting::kReal:
      return "real";
    case BenchRouting::kForced:
      return "forced";
    case BenchRouting::kZipf:
      return "zipf";
  }
  return "?";
}

// Which blocks the queries of selected attention read.
enum class BenchPattern {
  kRandom,  // those that the compression branch chooses for random numbers: neighbours share few
  kLocal,   // LocalLists (recipes/benchmark/block_lists.h)
  kFile,    // a model's
};

constexpr const char* NameOf(BenchPattern pattern) {
  switch (pattern) {
    case BenchPattern::kRandom:
      return "random";
    case BenchPattern::kLocal:
      return "local";
    case BenchPattern::kFile:
      return "file";
  }
  return "?";
}

struct BlockLists;  // recipes/benchmark/block_lists.h

// The paper's layer; the vocabulary and the dense feed-forward width are this benchmark's.
struct BenchSizes {
  int64_t tokens = 8192;         // memory-bound rows are measured at four times as many, too
  std::vector<int64_t> lengths;  // of the documents of attention's operators; none: `tokens`
  ModelConfig model = PaperModel();
  MoeConfig moe;
  NsaConfig nsa;
  BenchRouting routing = BenchRouting::kReal;
  BenchPattern pattern = BenchPattern::kRandom;
  double keep = 0;                          // of kLocal
  std::shared_ptr<const BlockLists> lists;  // of kFile, of at least as many tokens as any row
  int64_t parameters = int64_t{1} << 28;    // of AdamW and the sum of squares
  int64_t square = 8192;                    // side of the matrix product that is the ceiling
  int64_t copy_bytes = int64_t{4} << 30;

  static ModelConfig PaperModel() {
    ModelConfig model;
    model.vocab_size = 131072;
    model.dense_width = 6912;
    return model;
  }
};

// The i-th call; calls take turns with their inputs. `before`, if any, is what a call needs anew each
// time and is not timed.
struct BenchCall {
  std::function<void(int64_t i)> call;
  std::function<void(int64_t i)> before = nullptr;

  void operator()(int64_t i) const {
    if (before) before(i);
    call(i);
  }
};

// Blocks that queries of a row read: of a token, and different ones of 4 and of 12 adjacent tokens.
struct ListStatistics {
  std::string pattern;
  double of_token = 0, of_adjacent = 0, of_far_adjacent = 0;
};

struct BenchRow {
  enum class Bound { kBytes, kFlops };

  std::string op;  // with `tokens` the row's name, also of its PyTorch twin (tools/bench_torch.py)
  int64_t tokens = 0;
  Bound bound = Bound::kBytes;
  double work = 0;      // of one call, in bytes or FLOPs
  std::string formula;  // of `work`, in the letters of core/shape.h
  // Allocates and fills the inputs, which live as long as what it returns.
  std::function<BenchCall()> prepare;
  // Bytes that a forward pass leaves for the backward pass, its input among them, its output not.
  // Of layers.
  std::function<int64_t()> held;
  // Of rows of selected attention.
  std::function<ListStatistics()> lists;
};

// prepare() of a row: as many input sets `make(number)` as it takes to leave nothing in the cache
// (50 MB of L2), `call(set)`, and before it `before(set)`.
template <class Make, class Call, class Before = std::nullptr_t>
std::function<BenchCall()> Rotating(double set_bytes, Make make, Call call,
                                    Before before = nullptr) {
  return [=]() -> BenchCall {
    constexpr double kBeyondCache = 2e8;
    const double wanted = std::ceil(kBeyondCache / std::max(1.0, set_bytes));
    const auto count = static_cast<uint64_t>(std::clamp(wanted, 1.0, 64.0));
    auto sets = std::make_shared<std::vector<decltype(make(uint64_t{0}))>>();
    for (uint64_t i = 0; i < count; ++i) sets->push_back(make(i));
    const auto of = [sets](int64_t i) -> auto& {
      return (*sets)[static_cast<size_t>(i) % sets->size()];
    };
    BenchCall calls{[of, call](int64_t i) { call(of(i)); }};
    if constexpr (!std::is_null_pointer_v<Before>)
      calls.before = [of, before](int64_t i) { before(of(i)); };
    return calls;
  };
}

// A list of rows being written.
struct BenchRows {
  std::vector<BenchRow> rows;

  template <class Make, class Call>
  void Bytes(std::string op, int64_t tokens, double bytes, std::string formula, Make make,
             Call call) {
    rows.push_back({std::move(op), tokens, BenchRow::Bound::kBytes, bytes, std::move(formula),
                    Rotating(bytes, make, call), nullptr, nullptr});
  }
  template <class Make, class Call, class Before = std::nullptr_t>
  void Flops(std::string op, int64_t tokens, double flops, std::string formula, double set_bytes,
             Make make, Call call, Before before = nullptr) {
    rows.push_back({std::move(op), tokens, BenchRow::Bound::kFlops, flops, std::move(formula),
                    Rotating(set_bytes, make, call, before), nullptr, nullptr});
  }
};

}  // namespace lacuna
