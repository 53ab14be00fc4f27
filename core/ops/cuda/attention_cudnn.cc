#include "core/ops/cuda/attention_cudnn.h"

#include <cudnn.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <mutex>
#include <optional>

#include "core/cuda/check.h"
#include "core/cuda/graph.h"
#include "core/cuda/memory.h"
#include "core/error.h"
#include "core/ops/cuda/attention_cudnn_layout.h"
#include "core/ops/cuda/attention_cudnn_plan.h"

namespace lacuna::cuda {
namespace {

constexpr size_t kOldestVersion = 91400;
constexpr int kHopper = 9;
// Widest head taken. cuDNN accepts 256, but its backward then gives wrong gradients (seen with 9.14
// on an H200: dk and dv were not finite).
constexpr int64_t kWidestHead = 192;
constexpr int64_t kTile = 128;  // of tokens: lengths of plans are multiples of it

int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Four lengths between a power of two and the next.
int64_t LengthOfPlan(int64_t length) {
  const auto power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(length)));
  return RoundUp(length, std::max(kTile, power / 8));
}

// The plans of one device. They stay as long as the program.
class Plans {
 public:
  bool on_hopper(Device device) {
    std::lock_guard lock(mutex_);
    if (compute_major_ == 0) {
      LACUNA_CUDA_CHECK(
          cudaDeviceGetAttribute(&compute_major_, cudaDevAttrComputeCapabilityMajor, device.index));
    }
    return compute_major_ == kHopper;
  }

  // Null where cuDNN refuses.
  const SdpaPlan* Find(const SdpaShape& shape, Stream stream) {
    std::lock_guard lock(mutex_);
    auto entry = plans_.find(shape);
    if (entry == plans_.end()) {
      RefuseInCapture("attention has no plan of cuDNN yet; the work has to run once before");
      entry = plans_.emplace(shape, Make(shape, stream)).first;
    }
    return entry->second.get();
  }

  void Run(const SdpaPlan& plan, const SdpaTensors& tensors, const RaggedLayout* documents,
           void* workspace, Stream stream) {
    std::lock_guard lock(mutex_);  // handles are for one thread at a time
    plan.Run(tensors, documents, workspace, stream);
  }

 private:
  static std::unique_ptr<SdpaPlan> Make(const SdpaShape& s, Stream stream) {
    const char* const op = s.backward ? "attention_bwd" : "attention_fwd";
    const std::string sizes = fmt::format(
        "{} documents of up to {} tokens, {} heads in {} groups, Dk {}, Dv {}, window {}",
        std::max<int64_t>(s.documents, 1), s.length, s.heads, s.groups, s.dk, s.dv, s.window);
    std::string failure;
    auto plan = SdpaPlan::Make(s, stream, &failure);
    if (plan == nullptr) {
      spdlog::warn("{}: Lacuna's own kernel instead of cuDNN {} for {}: {}", op, cudnnGetVersion(),
                   sizes, failure);
    } else if (s.backward && !s.deterministic) {
      spdlog::warn(
          "{}: last bits of gradients differ from run to run: cuDNN's deterministic "
          "algorithm would need more than {} GiB for {}",
          op, kMaxDeterministicBytes >> 30, sizes);
    }
    return plan;
  }

  std::mutex mutex_;
  int compute_major_ = 0;
  std::map<SdpaShape, std::unique_ptr<SdpaPlan>> plans_;
};

Plans& PlansOf(Device device) {
  constexpr size_t kMaxDevices = 16;
  static auto* const plans = new std::array<Plans, kMaxDevices>;  // outlives every static tensor
  return (*plans)[static_cast<size_t>(device.index)];
}

// cuDNN's descriptors promise 16 bytes.
bool Aligned(std::initializer_list<TensorRef> tensors) {
  return std::ranges::all_of(tensors, [](const TensorRef& tensor) {
    return reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0;
  });
}

// What is known without asking cuDNN.
template <class Args>
bool Fits(const Args& args, Stream stream) {
  const int64_t rows = args.q.dim(0), documents = args.cu_queries.dim(0) - 1, dk = args.q.dim(2),
                dv = args.v.dim(2);
  return args.q.dtype == DType::kBF16 && args.causal.window >= 0 &&
         // One token a document is nothing that cuDNN's backward takes.
         args.causal.max_length > 1 && rows > 1 && rows == args.k.dim(0) && documents > 0 &&
         dk % 8 == 0 && dv % 8 == 0 && dk > 0 && dv > 0 && dk <= kWidestHead &&
         dv <= kWidestHead && Aligned({args.q, args.k, args.v, args.o, args.lse}) &&
         cudnnGetVersion() >= kOldestVersion && PlansOf(stream.device).on_hopper(stream.device);
}

template <class Args>
SdpaShape ShapeOf(const Args& args) {
  const int64_t rows = args.q.dim(0), documents = args.cu_queries.dim(0) - 1,
                length = std::min(args.causal.max_length, rows), window = args.causal.window;
  SdpaShape shape{.heads = args.q.dim(1),
                  .groups = args.k.dim(1),
                  .row_heads = args.q.dim(1),
                  .row_groups = args.k.dim(1),
                  .dk = args.q.dim(2),
                  .dv = args.v.dim(2),
                  .window = window < length ? window : 0,
                  .scale = static_cast<float>(args.scale)};
  if (documents == 1 && rows % kTile == 0) {
    shape.length = rows;
    shape.rows = rows;
  } else {
    shape.documents = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(documents)));
    shape.length = LengthOfPlan(length);
    shape.rows = RoundUp(rows, 1024);
  }
  return shape;
}

// A call as cuDNN does it: the same plan for each part of the heads.
struct Job {
  SdpaShape shape;
  int64_t turns = 1;
  const SdpaPlan* plan = nullptr;
};

// The fewest turns in which the deterministic backward has the memory it needs; none fits: 0.
int64_t DeterministicTurns(const SdpaShape& s) {
  const int64_t rep = s.heads / s.groups, documents = std::max<int64_t>(s.documents, 1);
  for (int64_t turns = 1; turns <= s.groups; ++turns) {
    const int64_t heads = s.groups / turns * rep;
    // The log-sum-exps of a turn start at a multiple of 16 bytes.
    if (s.groups % turns != 0 || (turns > 1 && heads % 4 != 0)) continue;
    if (2 * documents * heads * s.length * s.length <= kMaxDeterministicBytes) return turns;
  }
  return 0;
}

std::optional<Job> JobOf(const AttentionFwdArgs& args, Stream stream) {
  if (!Fits(args, stream)) return std::nullopt;
  Job job{.shape = ShapeOf(args)};
  job.plan = PlansOf(stream.device).Find(job.shape, stream);
  if (job.plan == nullptr) return std::nullopt;
  return job;
}

std::optional<Job> JobOf(const AttentionBwdArgs& args, Stream stream) {
  if (!Fits(args, stream) || !Aligned({args.d_o, args.dq, args.dk, args.dv})) return std::nullopt;
  Job job{.shape = ShapeOf(args)};
  job.shape.backward = true;
  if (const int64_t turns = DeterministicTurns(job.shape); turns > 0) {
    job.turns = turns;
    job.shape.heads /= turns;
    job.shape.groups /= turns;
    job.shape.deterministic = true;
  }
  job.plan = PlansOf(stream.device).Find(job.shape, stream);
  if (job.plan == nullptr) return std::nullopt;
  return job;
}

// The log-sum-exps and offsets in the form that the plan takes, and the memory of its own.
class Scratch {
 public:
  template <class Args>
  Scratch(const Args& args, const Job& job, Stream stream)
      : packed_(job.shape.documents > 0),
        form_(packed_ ? RaggedLayout::Bytes(job.shape.documents) : args.lse.numel() * 4, stream),
        plan_(job.plan->workspace_bytes(), stream),
        documents_(form_.As<void>(), job.shape.documents) {
    if (!packed_) return;
    FillRaggedLayout(documents_, args.cu_queries.template As<int32_t>(), args.cu_queries.dim(0) - 1,
                     job.shape.documents,
                     {.q = args.q.dim(1) * args.q.dim(2),
                      .k = args.k.dim(1) * args.k.dim(2),
                      .v = args.v.dim(1) * args.v.dim(2),
                      .o = args.o.dim(1) * args.o.dim(2),
                      .lse = args.q.dim(1)},
                     stream);
  }

  bool packed() const { return packed_; }
  float* lse_by_heads() const { return form_.As<float>(); }  // not of packed documents
  const RaggedLayout* documents() const { return packed_ ? &documents_ : nullptr; }
  void* plan() const { return plan_.As<void>(); }

 private:
  bool packed_;
  Workspace form_, plan_;
  RaggedLayout documents_;
};

// From head `head` of `x` on.
void* FromHead(const TensorRef& x, int64_t head) {
  return x.As<BFloat16>() + head * x.dim(2);
}

CudnnPlan Describe(const std::optional<Job>& job) {
  if (!job) return {};
  return {.usable = true,
          .deterministic = !job->shape.backward || job->shape.deterministic,
          .turns = job->turns,
          .workspace_bytes = job->plan->workspace_bytes()};
}

}  // namespace

CudnnPlan CudnnPlanOf(const AttentionFwdArgs& args, Stream stream) {
  return Describe(JobOf(args, stream));
}
CudnnPlan CudnnPlanOf(const AttentionBwdArgs& args, Stream stream) {
  return Describe(JobOf(args, stream));
}

void CudnnAttentionFwd(const AttentionFwdArgs& args, Stream stream) {
  const std::optional<Job> job = JobOf(args, stream);
  LACUNA_CHECK(job, "attention_fwd: not for cuDNN");
  const Scratch scratch(args, *job, stream);
  void* const lse = scratch.packed() ? args.lse.data : scratch.lse_by_heads();
  PlansOf(stream.device)
      .Run(*job->plan,
           {.q = args.q.data, .k = args.k.data, .v = args.v.data, .o = args.o.data, .lse = lse},
           scratch.documents(), scratch.plan(), stream);
  if (scratch.packed()) return;
  TransposeMatrix(scratch.lse_by_heads(), args.lse.dim(1), args.lse.dim(0), args.lse.As<float>(),
                  stream);
}

void CudnnAttentionBwd(const AttentionBwdArgs& args, Stream stream) {
  const std::optional<Job> job = JobOf(args, stream);
  LACUNA_CHECK(job, "attention_bwd: not for cuDNN");
  const Scratch scratch(args, *job, stream);
  if (!scratch.packed()) {
    TransposeMatrix(args.lse.As<float>(), args.lse.dim(0), args.lse.dim(1), scratch.lse_by_heads(),
                    stream);
  }
  for (int64_t turn = 0; turn < job->turns; ++turn) {
    const int64_t head = turn * job->shape.heads, group = turn * job->shape.groups;
    float* const lse = scratch.packed() ? args.lse.As<float>() + head
                                        : scratch.lse_by_heads() + head * args.lse.dim(0);
    PlansOf(stream.device)
        .Run(*job->plan,
             {.q = FromHead(args.q, head),
              .k = FromHead(args.k, group),
              .v = FromHead(args.v, group),
              .o = FromHead(args.o, head),
              .lse = lse,
              .d_o = FromHead(args.d_o, head),
              .dq = FromHead(args.dq, head),
              .dk = FromHead(args.dk, group),
              .dv = FromHead(args.dv, group)},
             scratch.documents(), scratch.plan(), stream);
  }
}

}  // namespace lacuna::cuda
