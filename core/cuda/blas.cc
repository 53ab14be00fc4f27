#include "core/cuda/blas.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <memory>
#include <mutex>
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

struct PlanKey {
  cudaDataType_t input, output;
  int64_t rows, columns, inner;
  bool transpose_a, transpose_b;
  uint32_t align_a, align_b, align_added, align_c;

  auto operator<=>(const PlanKey&) const = default;
};

uint32_t AlignmentOf(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  return static_cast<uint32_t>(std::min<uintptr_t>(address & (~address + 1), 256));
}

// cublasLt is column-major: it is asked for c^T = op(b)^T op(a)^T, whose factors are the same
// memory.
class Plan {
 public:
  Plan(cublasLtHandle_t handle, const PlanKey& key) {
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
    Choose(handle, key);
  }

  void Run(cublasLtHandle_t handle, const BlasProduct& p, void* workspace,
           cudaStream_t stream) const {
    LACUNA_CUBLAS_CHECK(cublasLtMatmul(handle, product_, &p.alpha, p.b, b_, p.a, a_, &p.beta,
                                       p.added, c_, p.c, c_, &algorithm_, workspace,
                                       kWorkspaceBytes, stream));
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
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, product_, b_, a_, c_, c_, wish, 1, &found, &count);
    cublasLtMatmulPreferenceDestroy(wish);
    LACUNA_CHECK(status == CUBLAS_STATUS_SUCCESS && count == 1,
                 "matmul: cuBLAS has no algorithm for [{}, {}] x [{}, {}]{}{}: {}", key.rows,
                 key.inner, key.inner, key.columns, key.transpose_a ? ", a transposed" : "",
                 key.transpose_b ? ", b transposed" : "", cublasLtGetStatusName(status));
    algorithm_ = found.algo;
  }

  // Kept as long as the program: plans are few, and the driver may be gone before statics end.
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t a_ = nullptr, b_ = nullptr, c_ = nullptr;
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
      workspace_ = Allocate(kWorkspaceBytes, stream.device, MemoryCategory::kWorkspace);
    }
    const PlanKey key{.input = p.input,
                      .output = p.output,
                      .rows = p.rows,
                      .columns = p.columns,
                      .inner = p.inner,
                      .transpose_a = p.transpose_a,
                      .transpose_b = p.transpose_b,
                      .align_a = AlignmentOf(p.a),
                      .align_b = AlignmentOf(p.b),
                      .align_added = AlignmentOf(p.added),
                      .align_c = AlignmentOf(p.c)};
    auto plan = plans_.find(key);
    if (plan == plans_.end()) {
      RefuseFirstUse(p);
      plan = plans_.emplace(key, Plan(handle_, key)).first;
    }
    plan->second.Run(handle_, p, workspace_, static_cast<cudaStream_t>(stream.handle));
  }

 private:
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
