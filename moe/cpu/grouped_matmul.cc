// Pieces of (expert, block of rows) run in parallel, each one single-threaded OpenBLAS product:
// experts are too small and too unequal to keep several threads busy one after the other.
#include "moe/grouped_matmul.h"

#include <cblas.h>

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/cpu/widened.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/parallel.h"
#include "moe/cpu/rows_of.h"

namespace lacuna::cpu {
namespace {

// of x; large enough for full speed, small enough to balance unequal experts
constexpr int64_t kRowsPerPiece = 256;

// c = a op(b) + beta c on row-major matrices whose rows are contiguous.
void Gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a,
          int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
              transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(m), static_cast<int>(n),
              static_cast<int>(k), 1.0f, a, static_cast<int>(lda), b, static_cast<int>(ldb), beta,
              c, static_cast<int>(ldc));
}
void Gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const double* a,
          int64_t lda, const double* b, int64_t ldb, double beta, double* c, int64_t ldc) {
  cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
              transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(m), static_cast<int>(n),
              static_cast<int>(k), 1.0, a, static_cast<int>(lda), b, static_cast<int>(ldb), beta, c,
              static_cast<int>(ldc));
}

struct Piece {
  int64_t expert, begin, end;  // a range of what is cut: rows of x, or rows of dw
};

// The rows of each expert, of one chunk or of all.
class ExpertRows {
 public:
  ExpertRows(const TensorRef& offsets, int64_t experts, int64_t rows, int64_t chunks, int64_t chunk)
      : offsets_(offsets.As<int64_t>()),
        experts_(experts),
        chunks_(chunks),
        first_(std::max<int64_t>(chunk, 0)),
        length_(chunk == kAllChunks ? chunks : 1) {
    bool ordered = offsets_[0] == 0 && offsets_[experts * chunks] == rows;
    for (int64_t i = 0; i < experts * chunks; ++i)
      ordered = ordered && offsets_[i] <= offsets_[i + 1];
    LACUNA_CHECK(ordered, "grouped_matmul: offsets do not cut {} rows", rows);
  }
  int64_t begin(int64_t e) const { return offsets_[e * chunks_ + first_]; }
  int64_t end(int64_t e) const { return offsets_[e * chunks_ + first_ + length_]; }
  bool none(int64_t e) const { return begin(e) == end(e); }

  std::vector<Piece> Cut() const {
    std::vector<Piece> pieces;
    for (int64_t e = 0; e < experts_; ++e) {
      for (int64_t r = begin(e); r < end(e); r += kRowsPerPiece)
        pieces.push_back({e, r, std::min(r + kRowsPerPiece, end(e))});
    }
    return pieces;
  }

 private:
  const int64_t* offsets_;
  int64_t experts_, chunks_, first_, length_;
};

// The weights in the compute type. Of bf16 only the experts with rows are widened, into memory that
// is otherwise left untouched: a decode step reads K experts, not E.
template <class T>
class ExpertWeights {
 public:
  using A = ComputeType<T>;
  ExpertWeights(const TensorRef& w, const ExpertRows& rows) {
    if constexpr (std::is_same_v<T, A>) {
      data_ = w.As<T>();
    } else {
      const int64_t size = w.dim(1) * w.dim(2);
      copy_.reset(new A[static_cast<size_t>(w.numel())]);
      ParallelFor(w.dim(0), size, [&](int64_t e) {
        if (rows.none(e)) return;
        for (int64_t i = e * size; i < (e + 1) * size; ++i)
          copy_[static_cast<size_t>(i)] = Widen(w.As<T>()[i]);
      });
      data_ = copy_.get();
    }
  }
  const A* data() const { return data_; }

 private:
  std::unique_ptr<A[]> copy_;
  const A* data_ = nullptr;
};

template <class T>
void Forward(const GroupedMatMulArgs& args) {
  const int64_t experts = args.w.dim(0), in = args.x.dim(1), out = args.y.dim(1),
                columns = args.w.dim(2);
  const ExpertRows rows(args.offsets, experts, args.x.dim(0), args.chunks, args.chunk);
  const ExpertWeights<T> w(args.w, rows);
  const std::vector<Piece> pieces = rows.Cut();
  ParallelFor(static_cast<int64_t>(pieces.size()), kRowsPerPiece * in * out, [&](int64_t i) {
    const Piece& p = pieces[static_cast<size_t>(i)];
    const WidenedInput<T> x(RowsOf(args.x, p.begin, p.end));
    WidenedOutput<T> y(RowsOf(args.y, p.begin, p.end));
    Gemm(false, args.transpose_w, p.end - p.begin, out, in, x.data(), in,
         w.data() + p.expert * in * out, columns, 0, y.data(), out);
    y.Store();
  });
}

template <class T>
void WeightGradient(const GroupedMatMulDwArgs& args) {
  using A = ComputeType<T>;
  const int64_t experts = args.dw.dim(0), out = args.dw.dim(1), in = args.dw.dim(2);
  const ExpertRows of(args.offsets, experts, args.x.dim(0), args.chunks, kAllChunks);
  const WidenedInput<T> x(args.x), dy(args.dy);
  // Cut by rows of dw, which keeps each sum whole: no partial sums, no order to fix.
  std::vector<Piece> pieces;
  for (int64_t e = 0; e < experts; ++e) {
    if (of.none(e)) continue;
    for (int64_t r = 0; r < out; r += kRowsPerPiece)
      pieces.push_back({e, r, std::min(r + kRowsPerPiece, out)});
  }
  A* dw = args.dw.As<A>();
  if (!args.accumulate) std::fill(dw, dw + args.dw.numel(), A(0));
  ParallelFor(static_cast<int64_t>(pieces.size()),
              args.x.dim(0) / std::max<int64_t>(experts, 1) * in * kRowsPerPiece, [&](int64_t i) {
                const Piece& p = pieces[static_cast<size_t>(i)];
                const int64_t first = of.begin(p.expert), rows = of.end(p.expert) - first;
                Gemm(true, false, p.end - p.begin, in, rows, dy.data() + first * out + p.begin, out,
                     x.data() + first * in, in, 1, dw + (p.expert * out + p.begin) * in, in);
              });
}

}  // namespace

void GroupedMatMul(const GroupedMatMulArgs& args, Stream) {
  DispatchFloat(args.x.dtype, [&](auto tag) { Forward<typename decltype(tag)::type>(args); });
}

void GroupedMatMulDw(const GroupedMatMulDwArgs& args, Stream) {
  DispatchFloat(args.x.dtype,
                [&](auto tag) { WeightGradient<typename decltype(tag)::type>(args); });
}

}  // namespace lacuna::cpu
