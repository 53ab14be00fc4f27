// For each (document, tile of query tokens, group): S = Q K_cmp^T tile by tile, probabilities from
// the known lse, summed over the heads of the group; then pieces, block scores and the choice,
// token by token. No [N, Tc] matrix is kept.
#include "nsa/select_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/cpu/attention_tiles.h"
#include "core/cpu/small_gemm.h"
#include "core/cpu/widened.h"

namespace lacuna::cpu {
namespace {

constexpr int64_t kTileRows = 64;
constexpr int64_t kTileKeys = 64;

// Chosen blocks of one query, ascending; `scores` of blocks 0 .. own.
template <class A>
void Choose(const SelectBlocksArgs& args, int64_t own, const std::vector<A>& scores,
            std::vector<int32_t>* free, int32_t* out) {
  const int64_t places = args.blocks.dim(2);
  const int64_t init = std::min(args.num_init, own + 1),
                local = std::max(init, own - args.num_local + 1);
  // Blocks [0, init) and [local, own] are forced, those between compete.
  const int64_t open = places - init - (own + 1 - local), available = local - init;
  const int64_t taken = std::clamp<int64_t>(open, 0, available);
  free->clear();
  for (int64_t j = init; j < local; ++j) free->push_back(static_cast<int32_t>(j));
  if (taken < available) {
    const auto rank = [&](int32_t j) {
      const A s = scores[static_cast<size_t>(j)];
      return std::isnan(s) ? -std::numeric_limits<A>::infinity() : s;
    };
    std::nth_element(free->begin(), free->begin() + taken, free->end(), [&](int32_t a, int32_t b) {
      const A x = rank(a), y = rank(b);
      return x != y ? x > y : a < b;
    });
    free->resize(static_cast<size_t>(taken));
    std::sort(free->begin(), free->end());
  }
  for (int64_t j = 0; j < init; ++j) *out++ = static_cast<int32_t>(j);
  out = std::copy(free->begin(), free->end(), out);
  for (int64_t j = local; j <= own; ++j) *out++ = static_cast<int32_t>(j);
  std::fill(out, out + places - init - taken - (own + 1 - local), -1);
}

template <class A>
A NormalisedEntropy(const std::vector<A>& scores) {
  A total = 0, entropy = 0;
  for (const A s : scores) total += s;
  if (scores.size() < 2 || !(total > 0)) return 0;
  for (const A s : scores) entropy -= s > 0 ? s / total * std::log(s / total) : A(0);
  return entropy / std::log(static_cast<A>(scores.size()));
}

template <class T>
class Selector {
  using A = ComputeType<T>;

 public:
  explicit Selector(const SelectBlocksArgs& args)
      : args_(args),
        heads_(args.q.dim(1)),
        groups_(args.k_cmp.dim(1)),
        rep_(heads_ / groups_),
        width_(args.q.dim(2)),
        tile_tokens_(std::max<int64_t>(1, kTileRows / rep_)),
        cu_queries_(args.cu_queries.As<int32_t>()),
        cu_keys_(args.cu_keys.As<int32_t>()),
        q_(args.q),
        k_(args.k_cmp),
        k_tiles_(k_.data(), cu_keys_, args.cu_keys.dim(0) - 1, groups_, width_, kTileKeys) {}

  void Run() {
    std::vector<std::pair<int64_t, int64_t>> tiles;  // (document, first row)
    for (int64_t d = 0; d + 1 < args_.cu_queries.dim(0); ++d) {
      for (int64_t n = cu_queries_[d]; n < cu_queries_[d + 1]; n += tile_tokens_)
        tiles.emplace_back(d, n);
    }
    ParallelFor(static_cast<int64_t>(tiles.size()) * groups_, kTileRows * kTileKeys * width_,
                [&](int64_t i) {
                  const auto [document, first] = tiles[static_cast<size_t>(i / groups_)];
                  RunTile(document, first,
                          std::min<int64_t>(tile_tokens_, cu_queries_[document + 1] - first),
                          i % groups_);
                });
  }

 private:
  void RunTile(int64_t document, int64_t first, int64_t tokens, int64_t group) {
    const int32_t* ranges = args_.ranges.As<int32_t>();
    const int64_t visible = ranges[2 * (first + tokens - 1) + 1] - cu_keys_[document],
                  columns = (visible + kTileKeys - 1) / kTileKeys * kTileKeys;
    // probabilities summed over the heads
    std::vector<A> sums(static_cast<size_t>(tokens * columns), A(0));
    const int64_t rows = tokens * rep_;
    std::vector<A> q(static_cast<size_t>(rows * width_)), s(static_cast<size_t>(rows * kTileKeys));
    GatherRows(q_.data(), first, tokens, heads_, group, rep_, width_, static_cast<A>(args_.scale),
               q.data());
    const A* lse = args_.lse.As<A>();
    for (int64_t t = 0; t < columns / kTileKeys; ++t) {
      std::fill(s.begin(), s.end(), A(0));
      SmallGemm(rows, kTileKeys, width_, q.data(), width_, int64_t{1},
                k_tiles_.Tile(document, t, group), kTileKeys, s.data(), kTileKeys);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t n = first + r / rep_;
        const int64_t end =
            std::min<int64_t>(kTileKeys, ranges[2 * n + 1] - cu_keys_[document] - t * kTileKeys);
        ProbabilityRow(s.data() + r * kTileKeys, kTileKeys, 0, end,
                       lse[n * heads_ + group * rep_ + r % rep_]);
        A* sum = sums.data() + (r / rep_) * columns + t * kTileKeys;
        for (int64_t j = 0; j < end; ++j) {
          const A p = s[static_cast<size_t>(r * kTileKeys + j)];
          sum[j] += p < A(kLeastProbability) ? A(0) : p;
        }
      }
    }
    for (int64_t u = 0; u < tokens; ++u)
      ChooseFor(first + u, group, sums.data() + u * columns,
                ranges[2 * (first + u) + 1] - cu_keys_[document]);
  }

  void ChooseFor(int64_t n, int64_t group, const A* sums, int64_t visible) {
    const int64_t own = args_.positions.As<int32_t>()[n] / args_.select_block,
                  pieces = args_.select_block / args_.stride;
    std::vector<A> scores(static_cast<size_t>(own) + 1, A(0));
    // Piece u of the document (tokens [u d, u d + d)) gets every compressed block u - k, k < l/d;
    // block j its l'/d pieces.
    for (int64_t i = 0; i < visible; ++i) {
      for (int64_t k = 0; k < args_.block / args_.stride; ++k)
        scores[static_cast<size_t>((i + k) / pieces)] += sums[i];
    }
    std::vector<int32_t> free;
    const int64_t row = n * groups_ + group;
    Choose(args_, own, scores, &free,
           args_.blocks.template As<int32_t>() + row * args_.blocks.dim(2));
    if (args_.entropy.data != nullptr)
      args_.entropy.template As<A>()[row] = NormalisedEntropy(scores);
    if (args_.scores.data == nullptr) return;
    A* out = args_.scores.template As<A>() + row * args_.scores.dim(2);
    std::fill(std::copy(scores.begin(), scores.end(), out), out + args_.scores.dim(2), A(0));
  }

  const SelectBlocksArgs& args_;
  int64_t heads_, groups_, rep_, width_, tile_tokens_;
  const int32_t *cu_queries_, *cu_keys_;
  WidenedInput<T> q_, k_;
  TransposedTiles<A> k_tiles_;
};

}  // namespace

void SelectBlocks(const SelectBlocksArgs& args, Stream) {
  DispatchFloat(args.q.dtype,
                [&](auto tag) { Selector<typename decltype(tag)::type>(args).Run(); });
}

}  // namespace lacuna::cpu
