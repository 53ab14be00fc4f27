#include "core/ops/cuda/attention_cudnn.h"

#include <cudnn.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <mutex>
#include <type_traits>
#include <vector>

#include "core/cuda/memory.h"
#include "core/error.h"
#include "core/ops/attention_split.h"
#include "core/ops/cuda/attention_cudnn_layout.h"
#include "core/ops/cuda/attention_cudnn_plans.h"

namespace lacuna::cuda {
namespace {

constexpr size_t kOldestVersion = 91400;
// Widest head taken. cuDNN accepts 256, but its backward then gives wrong gradients (seen with 9.14
// on an H200: dk and dv were not finite).
constexpr int64_t kWidestHead = 192;
constexpr int64_t kTile = 128;  // of tokens

SdpaPlans& PlansOf(Stream stream) {
  return SdpaPlans::Of(stream.device);
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
  const int64_t rows = args.q.dim(0), documents = args.cu_queries.dim(0) - 1;
  return args.causal.window >= 0 &&
         // One token a document is nothing that cuDNN's backward takes.
         args.causal.max_length > 1 && rows > 1 && rows == args.k.dim(0) && documents > 0 &&
         Aligned({args.q, args.k, args.v, args.o, args.lse}) &&
         CudnnTakes(args.q.dtype, args.q.dim(2), args.v.dim(2), stream.device);
}

// What all documents of a call have in common.
template <class Args>
SdpaShape ShapeOf(const Args& args) {
  return {.backward = std::is_same_v<Args, AttentionBwdArgs>,
          .rows = args.q.dim(0),
          .heads = args.q.dim(1),
          .groups = args.k.dim(1),
          .row_heads = args.q.dim(1),
          .row_groups = args.k.dim(1),
          .dk = args.q.dim(2),
          .dv = args.v.dim(2),
          .window = args.causal.window < args.causal.max_length ? args.causal.window : 0,
          .scale = static_cast<float>(args.scale)};
}

bool IsDeterministic(const AttentionFwdArgs&) {
  return false;  // its one algorithm is, and needs no more memory for it
}
bool IsDeterministic(const AttentionBwdArgs& args) {
  return args.deterministic;
}

// Documents of one length class, or one whole document: the same plan for each run of documents and
// each part of the heads.
struct Part {
  ClassSplit split;  // not of a whole document
  SdpaShape shape;
  int64_t turns = 1;
  const SdpaPlan* plan = nullptr;

  bool packed() const { return shape.documents > 0; }
};

void TakeTurns(Part& part, int64_t turns) {
  part.turns = turns;
  part.shape.heads /= turns;
  part.shape.groups /= turns;
}

template <class Args>
Part WholeDocument(const Args& args) {
  Part part{.split = {}, .shape = ShapeOf(args)};
  SdpaShape& s = part.shape;
  s.length = s.rows;
  if (!IsDeterministic(args)) return part;
  if (const int64_t turns = DeterministicTurns(1, s.heads, s.groups, s.length); turns > 0) {
    TakeTurns(part, turns);
    s.deterministic = true;
  }
  return part;
}

template <class Args>
std::vector<Part> PartsOf(const Args& args) {
  const SdpaShape common = ShapeOf(args);
  if (args.cu_queries.dim(0) == 2 && common.rows % kTile == 0) return {WholeDocument(args)};
  std::vector<Part> parts;
  for (const ClassSplit& split :
       SplitByLength(args.causal.documents, {.rows = common.rows,
                                            .heads = common.heads,
                                            .groups = common.groups,
                                            .max_length = args.causal.max_length,
                                            .bound_memory = IsDeterministic(args)})) {
    Part part{.split = split, .shape = common};
    part.shape.documents = split.slots;
    part.shape.length = split.length;
    part.shape.rows = RowsOfPlans(common.rows);
    part.shape.deterministic = split.bounded;
    if (common.window >= split.length) part.shape.window = 0;
    TakeTurns(part, split.turns);
    parts.push_back(part);
  }
  return parts;
}

void WarnOfBits(const std::vector<Part>& parts) {
  static std::once_flag once;
  for (const Part& part : parts) {
    if (part.shape.deterministic) continue;
    std::call_once(once, [&] {
      spdlog::warn(
          "attention_bwd: last bits of gradients differ from run to run: cuDNN's deterministic "
          "algorithm would need more than {} GiB for a document of {} tokens, {} heads in {} "
          "groups",
          kMaxDeterministicBytes >> 30, part.shape.length, part.shape.heads, part.shape.groups);
    });
  }
}

// Empty where the call is not for cuDNN.
template <class Args>
std::vector<Part> PlannedParts(const Args& args, Stream stream) {
  if (!Fits(args, stream)) return {};
  std::vector<Part> parts = PartsOf(args);
  std::vector<SdpaShape> shapes;
  for (const Part& part : parts) shapes.push_back(part.shape);
  const std::vector<const SdpaPlan*> plans = PlansOf(stream).Find(shapes, stream);
  for (size_t i = 0; i < parts.size(); ++i) {
    if (plans[i] == nullptr) return {};
    parts[i].plan = plans[i];
  }
  if (IsDeterministic(args)) WarnOfBits(parts);
  return parts;
}

// The log-sum-exps and offsets in the form that the plans take, and the memory of their own.
class Scratch {
 public:
  template <class Args>
  Scratch(const Args& args, const std::vector<Part>& parts, Stream stream)
      : packed_(parts.front().packed()),
        form_(packed_ ? BytesOf(parts) : args.lse.numel() * 4, stream),
        plan_(WorkspaceOf(parts), stream) {
    if (!packed_) return;
    auto* memory = form_.As<char>();
    for (const Part& part : parts) {
      ClassLayouts& layouts = layouts_.of_class[layouts_.count++];
      layouts = LayoutsOf(part);
      layouts.memory = memory;
      memory += layouts.bytes();
    }
    FillLayouts(layouts_, args.cu_queries.template As<int32_t>(), args.cu_queries.dim(0) - 1,
                {.q = args.q.dim(1) * args.q.dim(2),
                 .k = args.k.dim(1) * args.k.dim(2),
                 .v = args.v.dim(1) * args.v.dim(2),
                 .o = args.o.dim(1) * args.o.dim(2),
                 .lse = args.q.dim(1)},
                stream);
  }

  static int64_t WorkspaceOf(const std::vector<Part>& parts) {
    int64_t bytes = 0;
    for (const Part& part : parts) bytes = std::max(bytes, part.plan->workspace_bytes());
    return bytes;
  }

  float* lse_by_heads() const { return form_.As<float>(); }  // of a whole document
  RaggedLayout Documents(size_t part, int64_t run) const {   // of packed ones
    return layouts_.of_class[part].Run(run);
  }
  void* plan() const { return plan_.As<void>(); }

 private:
  static ClassLayouts LayoutsOf(const Part& part) {
    return {.longer_than = static_cast<int32_t>(part.split.longer_than),
            .at_most = static_cast<int32_t>(part.split.at_most),
            .documents = part.split.documents,
            .slots = part.split.slots,
            .memory = nullptr};
  }
  static int64_t BytesOf(const std::vector<Part>& parts) {
    int64_t bytes = 0;
    for (const Part& part : parts) bytes += LayoutsOf(part).bytes();
    return bytes;
  }

  bool packed_;
  Workspace form_, plan_;
  AllLayouts layouts_;
};

// All runs of documents and turns of heads, one after the other. tensors(head, group): from these
// on.
template <class Tensors>
void RunAll(const std::vector<Part>& parts, const Scratch& scratch, Stream stream,
            const Tensors& tensors) {
  for (size_t p = 0; p < parts.size(); ++p) {
    const Part& part = parts[p];
    const int64_t runs = part.packed() ? part.split.runs() : 1;
    for (int64_t i = 0; i < runs * part.turns; ++i) {
      const int64_t turn = i % part.turns;
      RaggedLayout documents;
      if (part.packed()) documents = scratch.Documents(p, i / part.turns);
      PlansOf(stream).Run(*part.plan, tensors(turn * part.shape.heads, turn * part.shape.groups),
                          part.packed() ? &documents : nullptr, scratch.plan(), stream);
    }
  }
}

// From head `head` of `x` on.
void* FromHead(const TensorRef& x, int64_t head) {
  return x.As<BFloat16>() + head * x.dim(2);
}

template <class Args>
CudnnPlan Describe(const Args& args, Stream stream) {
  const std::vector<Part> parts = PlannedParts(args, stream);
  CudnnPlan plan{.usable = !parts.empty()};
  for (const Part& part : parts) {
    plan.deterministic &= !part.shape.backward || part.shape.deterministic;
    plan.turns = std::max(plan.turns, part.turns);
    plan.runs += part.turns * (part.packed() ? part.split.runs() : 1);
    plan.workspace_bytes = std::max(plan.workspace_bytes, part.plan->workspace_bytes());
  }
  return plan;
}

}  // namespace

CudnnPlan CudnnPlanOf(const AttentionFwdArgs& args, Stream stream) {
  return Describe(args, stream);
}
CudnnPlan CudnnPlanOf(const AttentionBwdArgs& args, Stream stream) {
  return Describe(args, stream);
}

bool CudnnTakes(DType dtype, int64_t dk, int64_t dv, Device device) {
  return dtype == DType::kBF16 && dk % 8 == 0 && dv % 8 == 0 && dk > 0 && dv > 0 &&
         dk <= kWidestHead && dv <= kWidestHead && cudnnGetVersion() >= kOldestVersion &&
         SdpaPlans::Of(device).on_hopper(device);
}

int64_t NumCudnnPlans(Device device) {
  return SdpaPlans::Of(device).size();
}

bool CudnnAttentionFwd(const AttentionFwdArgs& args, Stream stream) {
  const std::vector<Part> parts = PlannedParts(args, stream);
  if (parts.empty()) return false;
  const Scratch scratch(args, parts, stream);
  const bool packed = parts.front().packed();
  RunAll(parts, scratch, stream, [&](int64_t, int64_t) -> SdpaTensors {
    return {.q = args.q.data,
            .k = args.k.data,
            .v = args.v.data,
            .o = args.o.data,
            .lse = packed ? args.lse.data : scratch.lse_by_heads()};
  });
  if (!packed) {
    TransposeMatrix(scratch.lse_by_heads(), args.lse.dim(1), args.lse.dim(0), args.lse.As<float>(),
                    stream);
  }
  return true;
}

bool CudnnAttentionBwd(const AttentionBwdArgs& args, Stream stream) {
  if (args.add_dq || !Aligned({args.d_o, args.dq, args.dk, args.dv})) return false;
  const std::vector<Part> parts = PlannedParts(args, stream);
  if (parts.empty()) return false;
  const Scratch scratch(args, parts, stream);
  const bool packed = parts.front().packed();
  if (!packed) {
    TransposeMatrix(args.lse.As<float>(), args.lse.dim(0), args.lse.dim(1), scratch.lse_by_heads(),
                    stream);
  }
  RunAll(parts, scratch, stream, [&](int64_t head, int64_t group) -> SdpaTensors {
    return {.q = FromHead(args.q, head),
            .k = FromHead(args.k, group),
            .v = FromHead(args.v, group),
            .o = FromHead(args.o, head),
            .lse = packed ? args.lse.As<float>() + head
                          : scratch.lse_by_heads() + head * args.lse.dim(0),
            .d_o = FromHead(args.d_o, head),
            .dq = FromHead(args.dq, head),
            .dk = FromHead(args.dk, group),
            .dv = FromHead(args.dv, group)};
  });
  return true;
}

}  // namespace lacuna::cuda
