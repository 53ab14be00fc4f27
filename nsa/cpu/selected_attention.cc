// Forward, one query token and group at a time: the scores of all its blocks side by side in one
// row, one softmax, one product. The key blocks are transposed once for all queries, or, where the
// queries take fewer blocks than there are (a decode step), as they are taken: then the work does
// not grow with the keys.
//
//   blocks of t     3        7        own
//   scores      [ l' keys | l' keys | t % l' + 1 ]    rep rows (the heads of the group)
//
// Backward, one key block at a time: the tokens that chose it (an inverted list, ascending) are
// gathered in tiles of kTileRows rows (token, head), so that P and dS are formed once. dK and dV of
// the block stay with its worker; dQ is summed in kPartials buffers (block j adds to buffer j mod
// kPartials, blocks ascending), then over the buffers in order. Neither the sums nor their order
// depend on the threads.
#include "nsa/selected_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "core/cpu/attention_tiles.h"
#include "core/cpu/small_gemm.h"
#include "core/cpu/widened.h"
#include "nsa/gate_combine.h"

namespace lacuna::cpu {
namespace {

constexpr int64_t kTileRows = 64;
constexpr int64_t kTokenChunk = 16;
constexpr int64_t kPartials = 4;

struct Problem {
  int64_t heads, groups, rep, dk, dv, places, documents, select_block;
  const int32_t *blocks, *positions, *cu_queries, *cu_keys;

  template <class Args>
  explicit Problem(const Args& args)
      : heads(args.q.dim(1)),
        groups(args.k.dim(1)),
        rep(heads / groups),
        dk(args.q.dim(2)),
        dv(args.v.dim(2)),
        places(args.blocks.dim(2)),
        documents(args.cu_queries.dim(0) - 1),
        select_block(args.select_block),
        blocks(args.blocks.template As<int32_t>()),
        positions(args.positions.template As<int32_t>()),
        cu_queries(args.cu_queries.template As<int32_t>()),
        cu_keys(args.cu_keys.template As<int32_t>()) {}

  const int32_t* list(int64_t n, int64_t group) const {
    return blocks + (n * groups + group) * places;
  }
  // Keys of block j that query row n sees.
  int64_t visible(int64_t n, int64_t j) const {
    return std::clamp<int64_t>(positions[n] - j * select_block + 1, 0, select_block);
  }
};

template <class A>
struct Inputs {
  const A *q, *k, *v;
  TransposedTiles<A>* k_tiles;  // null: to be transposed as they are taken
};

template <class A>
struct Scratch {
  std::vector<A> q, scores, tile;
};

// Block j of a document's keys, transposed: [Dk, l'].
template <class A>
const A* KeyTile(const Problem& p, int64_t document, int64_t j, int64_t group, const Inputs<A>& in,
                 Scratch<A>* scratch) {
  if (in.k_tiles != nullptr) return in.k_tiles->Tile(document, j, group);
  const int64_t key = p.cu_keys[document] + j * p.select_block,
                rows = std::min<int64_t>(p.select_block, p.cu_keys[document + 1] - key);
  scratch->tile.resize(static_cast<size_t>(p.dk * p.select_block));
  TransposeTile(in.k + (key * p.groups + group) * p.dk, rows, p.groups * p.dk, p.dk, p.select_block,
                scratch->tile.data());
  return scratch->tile.data();
}

template <class A>
void ForwardToken(const Problem& p, int64_t document, int64_t n, int64_t group, const Inputs<A>& in,
                  A scale, Scratch<A>* scratch, A* o_all, A* lse_all) {
  const int32_t* list = p.list(n, group);
  int64_t count = 0, keys = 0;
  for (; count < p.places && list[count] >= 0; ++count) keys += p.visible(n, list[count]);
  const int64_t row = count * p.select_block, first = n * p.heads + group * p.rep;
  scratch->q.resize(static_cast<size_t>(p.rep * p.dk));
  scratch->scores.assign(static_cast<size_t>(p.rep * row), A(0));
  A *q = scratch->q.data(), *scores = scratch->scores.data(), *o = o_all + first * p.dv;
  GatherRows(in.q, n, 1, p.heads, group, p.rep, p.dk, scale, q);
  for (int64_t b = 0; b < count; ++b) {
    SmallGemm(p.rep, p.select_block, p.dk, q, p.dk, int64_t{1},
              KeyTile(p, document, list[b], group, in, scratch), p.select_block,
              scores + b * p.select_block, row);
  }
  std::fill(o, o + p.rep * p.dv, A(0));
  for (int64_t r = 0; r < p.rep; ++r) {
    A top = -std::numeric_limits<A>::infinity(), sum = 0;
    // Only the last block of an ascending list is cut by causality, so the visible keys are the
    // row's first ones.
    OnlineSoftmaxRow(scores + r * row, row, 0, keys, &top, &sum, o + r * p.dv, p.dv);
    lse_all[first + r] = sum == 0 ? -std::numeric_limits<A>::infinity() : top + std::log(sum);
    const A inverse = sum == 0 ? A(0) : A(1) / sum;
    for (int64_t j = 0; j < keys; ++j) scores[r * row + j] *= inverse;
  }
  for (int64_t b = 0; b < count; ++b) {
    const int64_t key = p.cu_keys[document] + list[b] * p.select_block;
    SmallGemm(p.rep, p.dv, p.visible(n, list[b]), scores + b * p.select_block, row, int64_t{1},
              in.v + (key * p.groups + group) * p.dv, p.groups * p.dv, o, p.dv);
  }
}

template <class T>
void Forward(const SelectedAttentionFwdArgs& args) {
  using A = ComputeType<T>;
  const Problem p(args);
  const WidenedInput<T> q(args.q), k(args.k), v(args.v);
  WidenedOutput<T> o(args.o);
  std::optional<TransposedTiles<A>> k_tiles;
  if (args.q.dim(0) * p.places >= args.k.dim(0) / p.select_block)
    k_tiles.emplace(k.data(), p.cu_keys, p.documents, p.groups, p.dk, p.select_block);
  const Inputs<A> in{q.data(), k.data(), v.data(), k_tiles ? &*k_tiles : nullptr};
  std::vector<std::pair<int64_t, int64_t>> chunks;  // (document, first row)
  for (int64_t d = 0; d < p.documents; ++d) {
    for (int64_t n = p.cu_queries[d]; n < p.cu_queries[d + 1]; n += kTokenChunk)
      chunks.emplace_back(d, n);
  }
  ParallelFor(static_cast<int64_t>(chunks.size()) * p.groups,
              kTokenChunk * p.rep * p.places * p.select_block * p.dk, [&](int64_t i) {
                const auto [document, first] = chunks[static_cast<size_t>(i / p.groups)];
                const int64_t end =
                    std::min<int64_t>(first + kTokenChunk, p.cu_queries[document + 1]);
                Scratch<A> scratch;
                for (int64_t n = first; n < end; ++n) {
                  ForwardToken(p, document, n, i % p.groups, in, static_cast<A>(args.scale),
                               &scratch, o.data(), args.lse.As<A>());
                }
              });
  o.Store();
}

// For one document and group: the query rows that chose each block, ascending.
struct InvertedLists {
  std::vector<int64_t> start;  // [blocks + 1]
  std::vector<int32_t> rows;

  InvertedLists(const Problem& p, int64_t document, int64_t group) {
    const int64_t keys = p.cu_keys[document + 1] - p.cu_keys[document];
    start.assign(static_cast<size_t>((keys + p.select_block - 1) / p.select_block) + 1, 0);
    ForEachChoice(p, document, group,
                  [&](int64_t, int32_t j) { ++start[static_cast<size_t>(j) + 1]; });
    for (size_t j = 1; j < start.size(); ++j) start[j] += start[j - 1];
    rows.resize(static_cast<size_t>(start.back()));
    std::vector<int64_t> next(start.begin(), start.end() - 1);
    ForEachChoice(p, document, group, [&](int64_t n, int32_t j) {
      rows[static_cast<size_t>(next[static_cast<size_t>(j)]++)] = static_cast<int32_t>(n);
    });
  }

 private:
  template <class F>
  static void ForEachChoice(const Problem& p, int64_t document, int64_t group, F&& f) {
    for (int64_t n = p.cu_queries[document]; n < p.cu_queries[document + 1]; ++n) {
      const int32_t* list = p.list(n, group);
      for (int64_t b = 0; b < p.places && list[b] >= 0; ++b) f(n, list[b]);
    }
  }
};

template <class A>
struct Gradients {
  A *dq, *dk, *dv;  // dq: this part's buffer [N, H, Dk]
};

template <class A>
struct BackwardInputs {
  Inputs<A> in;
  TransposedTiles<A>* v_tiles;
  const A *d_o, *lse, *delta;
  A scale;
};

// One key block of one document and group.
template <class A>
void BackwardBlock(const Problem& p, int64_t document, int64_t group, int64_t block,
                   const int32_t* chosen, int64_t num_chosen, const BackwardInputs<A>& b,
                   const Gradients<A>& out) {
  const int64_t key = p.cu_keys[document] + block * p.select_block, tile_keys = p.select_block;
  const int64_t keys = std::min<int64_t>(tile_keys, p.cu_keys[document + 1] - key);
  const int64_t tile_tokens = std::max<int64_t>(1, kTileRows / p.rep),
                max_rows = tile_tokens * p.rep;
  std::vector<A> dk(static_cast<size_t>(tile_keys * p.dk), A(0)),
      dv(static_cast<size_t>(tile_keys * p.dv), A(0));
  std::vector<A> q(static_cast<size_t>(max_rows * p.dk)), d_o(static_cast<size_t>(max_rows * p.dv));
  std::vector<A> probability(static_cast<size_t>(max_rows * tile_keys)),
      ds(static_cast<size_t>(max_rows * tile_keys));
  for (int64_t begin = 0; begin < num_chosen; begin += tile_tokens) {
    const int64_t tokens = std::min(tile_tokens, num_chosen - begin), rows = tokens * p.rep;
    for (int64_t u = 0; u < tokens; ++u) {
      GatherRows(b.in.q, chosen[begin + u], 1, p.heads, group, p.rep, p.dk, b.scale,
                 q.data() + u * p.rep * p.dk);
      GatherRows(b.d_o, chosen[begin + u], 1, p.heads, group, p.rep, p.dv, A(1),
                 d_o.data() + u * p.rep * p.dv);
    }
    std::fill(probability.begin(), probability.end(), A(0));
    std::fill(ds.begin(), ds.end(), A(0));
    SmallGemm(rows, tile_keys, p.dk, q.data(), p.dk, int64_t{1},
              b.in.k_tiles->Tile(document, block, group), tile_keys, probability.data(), tile_keys);
    SmallGemm(rows, tile_keys, p.dv, d_o.data(), p.dv, int64_t{1},
              b.v_tiles->Tile(document, block, group), tile_keys, ds.data(), tile_keys);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t n = chosen[begin + r / p.rep], head = n * p.heads + group * p.rep + r % p.rep;
      A *prob = probability.data() + r * tile_keys, *grad = ds.data() + r * tile_keys;
      ProbabilityRow(prob, tile_keys, 0, p.visible(n, block), b.lse[head]);
      for (int64_t j = 0; j < tile_keys; ++j) grad[j] = prob[j] * (grad[j] - b.delta[head]);
    }
    SmallGemm(keys, p.dv, rows, probability.data(), int64_t{1}, tile_keys, d_o.data(), p.dv,
              dv.data(), p.dv);
    SmallGemm(keys, p.dk, rows, ds.data(), int64_t{1}, tile_keys, q.data(), p.dk, dk.data(), p.dk);
    for (int64_t u = 0; u < tokens; ++u) {
      SmallGemm(p.rep, p.dk, keys, ds.data() + u * p.rep * tile_keys, tile_keys, int64_t{1},
                b.in.k + (key * p.groups + group) * p.dk, p.groups * p.dk,
                out.dq + (chosen[begin + u] * p.heads + group * p.rep) * p.dk, p.dk);
    }
  }
  for (int64_t j = 0; j < keys; ++j) {
    std::copy_n(dk.data() + j * p.dk, p.dk, out.dk + ((key + j) * p.groups + group) * p.dk);
    std::copy_n(dv.data() + j * p.dv, p.dv, out.dv + ((key + j) * p.groups + group) * p.dv);
  }
}

template <class T>
void Backward(const SelectedAttentionBwdArgs& args) {
  using A = ComputeType<T>;
  const Problem p(args);
  const WidenedInput<T> q(args.q), k(args.k), v(args.v), o(args.o), d_o(args.d_o);
  WidenedOutput<T> dq(args.dq), dk(args.dk), dv(args.dv);
  TransposedTiles<A> k_tiles(k.data(), p.cu_keys, p.documents, p.groups, p.dk, p.select_block);
  TransposedTiles<A> v_tiles(v.data(), p.cu_keys, p.documents, p.groups, p.dv, p.select_block);
  const int64_t rows = args.q.dim(0) * p.heads, q_size = rows * p.dk;
  const std::vector<A> delta = DeltaOf<A>(args, d_o.data(), o.data());
  if (args.add_dq) dq.Load();
  std::vector<A> dq_partial(static_cast<size_t>(kPartials * q_size), A(0));
  const BackwardInputs<A> in{{q.data(), k.data(), v.data(), &k_tiles},
                             &v_tiles,
                             d_o.data(),
                             args.lse.As<A>(),
                             delta.data(),
                             static_cast<A>(args.scale)};
  std::vector<InvertedLists> lists;
  for (int64_t i = 0; i < p.documents * p.groups; ++i)
    lists.emplace_back(p, i / p.groups, i % p.groups);
  ParallelFor(
      p.documents * p.groups * kPartials, kTileRows * p.select_block * p.dk * 16, [&](int64_t i) {
        const int64_t document = i / (p.groups * kPartials), group = i / kPartials % p.groups,
                      part = i % kPartials;
        const InvertedLists& inverted = lists[static_cast<size_t>(document * p.groups + group)];
        for (size_t j = static_cast<size_t>(part); j + 1 < inverted.start.size(); j += kPartials) {
          BackwardBlock(p, document, group, static_cast<int64_t>(j),
                        inverted.rows.data() + inverted.start[j],
                        inverted.start[j + 1] - inverted.start[j], in,
                        Gradients<A>{dq_partial.data() + part * q_size, dk.data(), dv.data()});
        }
      });
  ParallelForChunks(q_size, 16384, kPartials, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      A sum = dq_partial[static_cast<size_t>(i)];
      for (int64_t part = 1; part < kPartials; ++part)
        sum += dq_partial[static_cast<size_t>(part * q_size + i)];
      dq.data()[i] = in.scale * sum + (args.add_dq ? dq.data()[i] : A(0));
    }
  });
  dq.Store();
  dk.Store();
  dv.Store();
}

}  // namespace

void SelectedAttentionFwd(const SelectedAttentionFwdArgs& args, Stream) {
  DispatchFloat(args.q.dtype, [&](auto tag) { Forward<typename decltype(tag)::type>(args); });
  if (args.o_sum.defined()) GateCombineFwd(GatedSumOf(args), kCpuStream);
}

void SelectedAttentionBwd(const SelectedAttentionBwdArgs& args, Stream) {
  DispatchFloat(args.q.dtype, [&](auto tag) { Backward<typename decltype(tag)::type>(args); });
}

}  // namespace lacuna::cpu
