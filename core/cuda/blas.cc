#include "core/cuda/blas.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <tuple>

#include "core/cuda/check.h"
#include "core/cuda/graph.h"
#include "core/cuda/memory.h"
#include "core/error.h"

namespace lacuna::cuda {

void Fail(const char* file, int line, const char* call, cublasStatus_t status) {
  lacuna::internal::Fail(file, line, call,
                         fmt::format("cuBLAS: {} ({})", cublasLtGetStatusString(status),
                                     cublasLtGetStatusName(status)));
}

namespace {

// What NVIDIA recommends for Hopper.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

// The number of rows that the algorithm of batch-invariant products is chosen for, and others that
// it has to take. Algorithms that copy 16 bytes at a time are the fastest; more alignment, which a
// slice of rows may or may not have, is not asked for.
constexpr int64_t kCanonicalRows = 2048, kFewestRows = 1, kManyRows = 1 << 16;
constexpr uint32_t kCanonicalAlignment = 16;

struct PlanKey {
  cudaDataType_t input, output;
  int64_t rows, columns, inner;
  bool transpose_a, transpose_b, batch_invariant;
  uint32_t align_a, align_b, align_added, align_c;

  auto operator<=>(const PlanKey&) const = default;
};

PlanKey WithRows(PlanKey key, int64_t rows) {
  key.rows = rows;
  return key;
}

uint32_t AlignmentOf(const void* data, bool batch_invariant) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t most = batch_invariant ? kCanonicalAlignment : 256;
  return static_cast<uint32_t>(std::min<uintptr_t>(address & (~address + 1), most));
}

// cublasLt is column-major: it is asked for c^T = op(b)^T op(a)^T, whose factors are the same
// memory. Descriptors are kept as long as the program: they are few, and the driver may be gone before
// statics end.
class Description {
 public:
  explicit Description(const PlanKey& key) {
    LACUNA_CUBLAS_CHECK(cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t first = key.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                            second = key.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    Set(CUBLASLT_MATMUL_DESC_TRANSA, first);
    Set(CUBLASLT_MATMUL_DESC_TRANSB, second);
    b_ = Layout(key.input, key.transpose_b ? key.inner : key.columns,
                key.transpose_b ? key.columns : key.inner);
    a_ = Layout(key.input, key.transpose_a ? key.rows : key.inner,
                key.transpose_a ? key.inner : key.rows);
    c_ = Layout(key.output, key.columns, key.rows);
  }

  // Whether an algorithm does this product.
  cublasStatus_t Check(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm) const {
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status =
        cublasLtMatmulAlgoCheck(handle, product_, b_, a_, c_, c_, &algorithm, &result);
    if (status == CUBLAS_STATUS_SUCCESS && result.workspaceSize > kWorkspaceBytes)
      return CUBLAS_STATUS_NOT_SUPPORTED;
    return status;
  }

  // The first heuristics for it.
  cublasStatus_t Suggest(cublasLtHandle_t handle, cublasLtMatmulPreference_t wish,
                         std::span<cublasLtMatmulHeuristicResult_t> found, int* count) const {
    return cublasLtMatmulAlgoGetHeuristic(handle, product_, b_, a_, c_, c_, wish,
                                          static_cast<int>(found.size()), found.data(), count);
  }

  void Run(cublasLtHandle_t handle, const BlasProduct& p, const cublasLtMatmulAlgo_t& algorithm,
           void* workspace, cudaStream_t stream) const {
    LACUNA_CUBLAS_CHECK(cublasLtMatmul(handle, product_, &p.alpha, p.b, b_, p.a, a_, &p.beta,
                                       p.added, c_, p.c, c_, &algorithm, workspace, kWorkspaceBytes,
                                       stream));
  }

 private:
  template <class T>
  void Set(cublasLtMatmulDescAttributes_t attribute, T value) {
    LACUNA_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product_, attribute, &value, sizeof(value)));
  }

  // Column-major rows x columns without gaps.
  static cublasLtMatrixLayout_t Layout(cudaDataType_t type, int64_t rows, int64_t columns) {
    cublasLtMatrixLayout_t layout = nullptr;
    LACUNA_CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, type, static_cast<uint64_t>(rows),
                                                   static_cast<uint64_t>(columns), rows));
    return layout;
  }

  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t a_ = nullptr, b_ = nullptr, c_ = nullptr;
};

bool SplitsNoSum(const cublasLtMatmulAlgo_t& algorithm) {
  const auto get = [&](cublasLtMatmulAlgoConfigAttributes_t attribute) {
    uint32_t value = 0;
    size_t written = 0;
    LACUNA_CUBLAS_CHECK(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, attribute, &value,
                                                             sizeof(value), &written));
    return value;
  };
  return get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM) <= 1 &&
         get(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) == CUBLASLT_REDUCTION_SCHEME_NONE;
}

class Plan {
 public:
  Plan(cublasLtHandle_t handle, const PlanKey& key) : product_(key) { Choose(handle, key); }
  // The same product of another number of rows.
  Plan(cublasLtHandle_t handle, const PlanKey& key, const Plan& canonical)
      : product_(key), algorithm_(canonical.algorithm_) {
    const cublasStatus_t status = product_.Check(handle, algorithm_);
    LACUNA_CHECK(status == CUBLAS_STATUS_SUCCESS,
                 "matmul: cuBLAS's algorithm for batch-invariant products [_, {}] x [{}, {}] does "
                 "not take {} rows: {}",
                 key.inner, key.inner, key.columns, key.rows, cublasLtGetStatusName(status));
  }

  void Run(cublasLtHandle_t handle, const BlasProduct& p, void* workspace,
           cudaStream_t stream) const {
    product_.Run(handle, p, algorithm_, workspace, stream);
  }

 private:
  void Choose(cublasLtHandle_t handle, const PlanKey& key) {
    cublasLtMatmulPreference_t wish = nullptr;
    LACUNA_CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&wish));
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      LACUNA_CUBLAS_CHECK(
          cublasLtMatmulPreferenceSetAttribute(wish, attribute, &value, sizeof(value)));
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.align_b);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.align_a);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.align_added);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.align_c);
    // Parts of a split sum are put aside and added in order; adding them in place would take the
    // order in which blocks end.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(key.batch_invariant ? CUBLASLT_REDUCTION_SCHEME_NONE
                                                  : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    std::array<cublasLtMatmulHeuristicResult_t, 16> found{};
    int count = 0;
    const cublasStatus_t status = product_.Suggest(
        handle, wish, std::span(found).first(key.batch_invariant ? found.size() : 1), &count);
    cublasLtMatmulPreferenceDestroy(wish);
    const auto end = found.begin() + (status == CUBLAS_STATUS_SUCCESS ? count : 0);
    auto chosen = found.begin();
    if (key.batch_invariant && chosen != end) {
      const Description fewest(WithRows(key, kFewestRows)), many(WithRows(key, kManyRows));
      chosen = std::find_if(found.begin(), end, [&](const auto& candidate) {
        return candidate.state == CUBLAS_STATUS_SUCCESS && SplitsNoSum(candidate.algo) &&
               fewest.Check(handle, candidate.algo) == CUBLAS_STATUS_SUCCESS &&
               many.Check(handle, candidate.algo) == CUBLAS_STATUS_SUCCESS;
      });
    }
    LACUNA_CHECK(chosen != end, "matmul: cuBLAS has no algorithm for [{}, {}] x [{}, {}]{}{}: {}",
                 key.rows, key.inner, key.inner, key.columns,
                 key.transpose_a ? ", a transposed" : "", key.transpose_b ? ", b transposed" : "",
                 cublasLtGetStatusName(status));
    algorithm_ = chosen->algo;
  }

  Description product_;
  cublasLtMatmulAlgo_t algorithm_{};
};

// A graph records products that have run before: what the first one makes is no work to repeat.
void RefuseFirstUse(const BlasProduct& p) {
  LACUNA_CHECK(
      !Capturing(),
      "CUDA graph: a product [{}, {}] x [{}, {}] that has not run yet is captured; the work "
      "has to run once before",
      p.rows, p.inner, p.inner, p.columns);
}

// Of one device; its workspace serves one stream, the compute stream.
class Blas {
 public:
  void Multiply(const BlasProduct& p, Stream stream) {
    std::lock_guard lock(mutex_);
    if (handle_ == nullptr) {
      RefuseFirstUse(p);  // the workspace would be the graph's
      LACUNA_CUBLAS_CHECK(cublasLtCreate(&handle_));
      workspace_ = Allocate(kWorkspaceBytes, stream, MemoryCategory::kWorkspace);
    }
    const PlanKey key{.input = p.input,
                      .output = p.output,
                      .rows = p.rows,
                      .columns = p.columns,
                      .inner = p.inner,
                      .transpose_a = p.transpose_a,
                      .transpose_b = p.transpose_b,
                      .batch_invariant = p.batch_invariant,
                      .align_a = AlignmentOf(p.a, p.batch_invariant),
                      .align_b = AlignmentOf(p.b, p.batch_invariant),
                      .align_added = AlignmentOf(p.added, p.batch_invariant),
                      .align_c = AlignmentOf(p.c, p.batch_invariant)};
    auto plan = plans_.find(key);
    if (plan == plans_.end()) {
      RefuseFirstUse(p);
      plan = plans_.emplace(key, MakePlan(key)).first;
    }
    plan->second.Run(handle_, p, workspace_, static_cast<cudaStream_t>(stream.handle));
  }

 private:
  Plan MakePlan(const PlanKey& key) {
    if (!key.batch_invariant) return Plan(handle_, key);
    const PlanKey canonical = WithRows(key, kCanonicalRows);
    auto plan = plans_.find(canonical);
    if (plan == plans_.end()) plan = plans_.emplace(canonical, Plan(handle_, canonical)).first;
    return Plan(handle_, key, plan->second);
  }

  std::mutex mutex_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<PlanKey, Plan> plans_;
};

}  // namespace

void Multiply(const BlasProduct& product, Stream stream) {
  constexpr size_t kMaxDevices = 16;
  static auto* const blas = new std::array<Blas, kMaxDevices>;  // outlives every static tensor
  (*blas)[static_cast<size_t>(stream.device.index)].Multiply(product, stream);
}

}  // namespace lacuna::cuda
