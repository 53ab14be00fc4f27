// Tiled attention. A query tile is kTileRows rows (token, head of one group), a key tile kTileKeys
// keys.
//
//   forward:   for each (document, query tile, group): for each key tile in range: S = Q K^T,
//              online softmax, O += P V
//   backward:  P and dS are formed once per (query tile, key tile); dQ is finished per query tile;
//              dK and dV are summed in
//              kPartials buffers (query tile i adds to buffer i mod kPartials), then over the
//                buffers in order. The number of
//              partial sums does not depend on the threads.
#include "core/ops/attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/cpu/attention_tiles.h"
#include "core/cpu/small_gemm.h"
#include "core/cpu/widened.h"

namespace lacuna::cpu {
namespace {

constexpr int64_t kTileRows = 64;
constexpr int64_t kTileKeys = 64;
constexpr int64_t kPartials = 4;

// Sizes and documents, in the words of the contract.
struct Problem {
  int64_t heads, groups, rep, dk, dv, keys, documents;
  int64_t tile_tokens;
  const int32_t *ranges, *cu_queries, *cu_keys;

  template <class Args>
  explicit Problem(const Args& args)
      : heads(args.q.dim(1)),
        groups(args.k.dim(1)),
        rep(heads / groups),
        dk(args.q.dim(2)),
        dv(args.v.dim(2)),
        keys(args.k.dim(0)),
        documents(args.cu_queries.dim(0) - 1),
        tile_tokens(std::max<int64_t>(1, kTileRows / rep)),
        ranges(args.ranges.template As<int32_t>()),
        cu_queries(args.cu_queries.template As<int32_t>()),
        cu_keys(args.cu_keys.template As<int32_t>()) {}

  int64_t num_tiles(int64_t document) const {
    return (cu_queries[document + 1] - cu_queries[document] + tile_tokens - 1) / tile_tokens;
  }
};

// A query tile of one document: its tokens, and the key tiles that its ranges touch.
struct QueryTile {
  int64_t document, first, tokens, key_begin, first_tile, end_tile;

  QueryTile(const Problem& p, int64_t doc, int64_t index) : document(doc) {
    first = p.cu_queries[doc] + index * p.tile_tokens;
    tokens = std::min<int64_t>(p.tile_tokens, p.cu_queries[doc + 1] - first);
    key_begin = p.cu_keys[doc];
    const int64_t begin = p.ranges[2 * first], end = p.ranges[2 * (first + tokens - 1) + 1];
    first_tile = (begin - key_begin) / kTileKeys;
    end_tile = end <= begin ? first_tile : (end - key_begin + kTileKeys - 1) / kTileKeys;
  }
};

template <class A>
struct Inputs {
  const A *q, *k, *v;
  TransposedTiles<A>* k_tiles;
};

template <class A>
void ForwardTile(const Problem& p, const QueryTile& tile, int64_t group, const Inputs<A>& in,
                 A scale, A* o_all, A* lse_all) {
  const int64_t rows = tile.tokens * p.rep;
  std::vector<A> q(static_cast<size_t>(rows * p.dk)), o(static_cast<size_t>(rows * p.dv), A(0));
  std::vector<A> scores(static_cast<size_t>(rows * kTileKeys));
  std::vector<A> top(static_cast<size_t>(rows), -std::numeric_limits<A>::infinity()),
      sum(static_cast<size_t>(rows), A(0));
  GatherRows(in.q, tile.first, tile.tokens, p.heads, group, p.rep, p.dk, scale, q.data());
  for (int64_t t = tile.first_tile; t < tile.end_tile; ++t) {
    const int64_t key = tile.key_begin + t * kTileKeys,
                  count = std::min<int64_t>(kTileKeys, p.cu_keys[tile.document + 1] - key);
    std::fill(scores.begin(), scores.end(), A(0));
    SmallGemm(rows, kTileKeys, p.dk, q.data(), p.dk, int64_t{1},
              in.k_tiles->Tile(tile.document, t, group), kTileKeys, scores.data(), kTileKeys);
    for (int64_t r = 0; r < rows; ++r) {
      const int32_t* range = p.ranges + 2 * (tile.first + r / p.rep);
      const int64_t begin = std::max<int64_t>(0, range[0] - key),
                    end = std::min<int64_t>(count, range[1] - key);
      const size_t i = static_cast<size_t>(r);
      OnlineSoftmaxRow(scores.data() + r * kTileKeys, kTileKeys, begin, end, &top[i], &sum[i],
                       o.data() + r * p.dv, p.dv);
    }
    SmallGemm(rows, p.dv, count, scores.data(), kTileKeys, int64_t{1},
              in.v + (key * p.groups + group) * p.dv, p.groups * p.dv, o.data(), p.dv);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const size_t i = static_cast<size_t>(r);
    const int64_t out = (tile.first + r / p.rep) * p.heads + group * p.rep + r % p.rep;
    const A inverse = sum[i] == 0 ? A(0) : A(1) / sum[i];
    for (int64_t c = 0; c < p.dv; ++c)
      o_all[out * p.dv + c] = o[static_cast<size_t>(r * p.dv + c)] * inverse;
    lse_all[out] = sum[i] == 0 ? -std::numeric_limits<A>::infinity() : top[i] + std::log(sum[i]);
  }
}

template <class T>
void Forward(const AttentionFwdArgs& args) {
  using A = ComputeType<T>;
  const Problem p(args);
  const WidenedInput<T> q(args.q), k(args.k), v(args.v);
  WidenedOutput<T> o(args.o);
  TransposedTiles<A> k_tiles(k.data(), p.cu_keys, p.documents, p.groups, p.dk, kTileKeys);
  const Inputs<A> in{q.data(), k.data(), v.data(), &k_tiles};
  // (document, query tile), the long ones of a causal document first
  std::vector<std::pair<int64_t, int64_t>> tiles;
  for (int64_t d = 0; d < p.documents; ++d) {
    for (int64_t i = p.num_tiles(d); i-- > 0;) tiles.emplace_back(d, i);
  }
  ParallelFor(static_cast<int64_t>(tiles.size()) * p.groups, kTileRows * kTileKeys * p.dk,
              [&](int64_t i) {
                const auto [document, index] = tiles[static_cast<size_t>(i / p.groups)];
                ForwardTile(p, QueryTile(p, document, index), i % p.groups, in,
                            static_cast<A>(args.scale), o.data(), args.lse.As<A>());
              });
  o.Store();
}

template <class A>
struct Gradients {
  A *dq, *dk, *dv;  // dk, dv: this thread's partial buffers [M, G, D]
};

template <class A>
void BackwardTile(const Problem& p, const QueryTile& tile, int64_t group, const Inputs<A>& in,
                  TransposedTiles<A>* v_tiles, A scale, const A* do_all, const A* lse_all,
                  const A* delta, const Gradients<A>& out) {
  const int64_t rows = tile.tokens * p.rep;
  std::vector<A> q(static_cast<size_t>(rows * p.dk)), dq(static_cast<size_t>(rows * p.dk), A(0));
  std::vector<A> d_o(static_cast<size_t>(rows * p.dv));
  std::vector<A> probability(static_cast<size_t>(rows * kTileKeys)),
      ds(static_cast<size_t>(rows * kTileKeys));
  GatherRows(in.q, tile.first, tile.tokens, p.heads, group, p.rep, p.dk, scale, q.data());
  GatherRows(do_all, tile.first, tile.tokens, p.heads, group, p.rep, p.dv, A(1), d_o.data());
  const auto row_of = [&](int64_t r) {
    return (tile.first + r / p.rep) * p.heads + group * p.rep + r % p.rep;
  };
  for (int64_t t = tile.first_tile; t < tile.end_tile; ++t) {
    const int64_t key = tile.key_begin + t * kTileKeys,
                  count = std::min<int64_t>(kTileKeys, p.cu_keys[tile.document + 1] - key);
    std::fill(probability.begin(), probability.end(), A(0));
    std::fill(ds.begin(), ds.end(), A(0));
    SmallGemm(rows, kTileKeys, p.dk, q.data(), p.dk, int64_t{1},
              in.k_tiles->Tile(tile.document, t, group), kTileKeys, probability.data(), kTileKeys);
    SmallGemm(rows, kTileKeys, p.dv, d_o.data(), p.dv, int64_t{1},
              v_tiles->Tile(tile.document, t, group), kTileKeys, ds.data(), kTileKeys);
    for (int64_t r = 0; r < rows; ++r) {
      const int32_t* range = p.ranges + 2 * (tile.first + r / p.rep);
      const int64_t begin = std::max<int64_t>(0, range[0] - key),
                    end = std::min<int64_t>(count, range[1] - key);
      A *prob = probability.data() + r * kTileKeys, *d = ds.data() + r * kTileKeys;
      ProbabilityRow(prob, kTileKeys, begin, end, lse_all[row_of(r)]);
      for (int64_t j = 0; j < kTileKeys; ++j) d[j] = prob[j] * (d[j] - delta[row_of(r)]);
    }
    const int64_t k_offset = (key * p.groups + group) * p.dk,
                  v_offset = (key * p.groups + group) * p.dv;
    SmallGemm(rows, p.dk, count, ds.data(), kTileKeys, int64_t{1}, in.k + k_offset, p.groups * p.dk,
              dq.data(), p.dk);
    SmallGemm(count, p.dk, rows, ds.data(), int64_t{1}, kTileKeys, q.data(), p.dk,
              out.dk + k_offset, p.groups * p.dk);
    SmallGemm(count, p.dv, rows, probability.data(), int64_t{1}, kTileKeys, d_o.data(), p.dv,
              out.dv + v_offset, p.groups * p.dv);
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < p.dk; ++c)
      out.dq[row_of(r) * p.dk + c] += scale * dq[static_cast<size_t>(r * p.dk + c)];
  }
}

// out = the partial buffers summed in order.
template <class A>
void SumPartials(const std::vector<A>& partials, int64_t size, A* out) {
  ParallelForChunks(size, 16384, kPartials, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      A sum = partials[static_cast<size_t>(i)];
      for (int64_t part = 1; part < kPartials; ++part)
        sum += partials[static_cast<size_t>(part * size + i)];
      out[i] = sum;
    }
  });
}

template <class T>
void Backward(const AttentionBwdArgs& args) {
  using A = ComputeType<T>;
  const Problem p(args);
  const WidenedInput<T> q(args.q), k(args.k), v(args.v), o(args.o), d_o(args.d_o);
  WidenedOutput<T> dq(args.dq), dk(args.dk), dv(args.dv);
  args.add_dq ? dq.Load() : dq.Clear();
  const std::vector<A> delta = DeltaOf<A>(args, d_o.data(), o.data());
  TransposedTiles<A> k_tiles(k.data(), p.cu_keys, p.documents, p.groups, p.dk, kTileKeys);
  TransposedTiles<A> v_tiles(v.data(), p.cu_keys, p.documents, p.groups, p.dv, kTileKeys);
  const Inputs<A> in{q.data(), k.data(), v.data(), &k_tiles};
  const int64_t k_size = p.keys * p.groups * p.dk, v_size = p.keys * p.groups * p.dv;
  std::vector<A> dk_partial(static_cast<size_t>(kPartials * k_size), A(0)),
      dv_partial(static_cast<size_t>(kPartials * v_size), A(0));
  ParallelFor(p.documents * p.groups * kPartials, kTileRows * kTileKeys * p.dk * 8, [&](int64_t i) {
    const int64_t document = i / (p.groups * kPartials), group = i / kPartials % p.groups,
                  part = i % kPartials;
    const Gradients<A> out{dq.data(), dk_partial.data() + part * k_size,
                           dv_partial.data() + part * v_size};
    for (int64_t index = part; index < p.num_tiles(document); index += kPartials) {
      BackwardTile(p, QueryTile(p, document, index), group, in, &v_tiles,
                   static_cast<A>(args.scale), d_o.data(), args.lse.As<A>(), delta.data(), out);
    }
  });
  SumPartials(dk_partial, k_size, dk.data());
  SumPartials(dv_partial, v_size, dv.data());
  dq.Store();
  dk.Store();
  dv.Store();
}

}  // namespace

void AttentionFwd(const AttentionFwdArgs& args, Stream) {
  DispatchFloat(args.q.dtype, [&](auto tag) { Forward<typename decltype(tag)::type>(args); });
}

void AttentionBwd(const AttentionBwdArgs& args, Stream) {
  DispatchFloat(args.q.dtype, [&](auto tag) { Backward<typename decltype(tag)::type>(args); });
}

}  // namespace lacuna::cpu
