#include "nsa/nsa_attention.h"

#include <string>
#include <utility>

#include "autograd/functions/activation.h"
#include "autograd/functions/linear.h"
#include "nn/gqa_attention.h"
#include "nn/metrics.h"
#include "nsa/decode_branches.h"
#include "nsa/nsa_cache.h"
#include "nsa/nsa_statistics.h"

namespace lacuna {
namespace {

constexpr const char* kBranchNames[] = {"cmp", "slc", "win"};

NsaInputs RowsOf(const NsaInputs& in, int64_t begin, int64_t end) {
  const auto rows = [=](const Variable& x) { return Variable(x.value().Slice(begin, end)); };
  return {rows(in.q),     rows(in.k_cmp), rows(in.v_cmp), rows(in.k_slc),
          rows(in.v_slc), rows(in.k_win), rows(in.v_win), rows(in.gate)};
}

// `sums`: see nsa/nsa_statistics.h; `gates` of them were added up.
void ReportStatistics(const std::string& name, const std::vector<double>& sums, double gates,
                      Metrics* metrics) {
  for (size_t c = 0; c < 3; ++c) metrics->Add(name + ".gate_" + kBranchNames[c], sums[c], gates);
  metrics->Add(name + ".selection_entropy", sums[3], sums[4]);
  metrics->Add(name + ".window_overlap", sums[5], sums[6]);
}

}  // namespace

NsaAttention::NsaAttention(const AttentionSpec& spec, const NsaConfig& config)
    : spec_(spec),
      config_(config),
      phi_k_(spec.head_dim_qk, config, config.phi_start != PhiStart::kRandom),
      phi_v_(spec.head_dim_v, config, config.phi_start == PhiStart::kMean) {
  const auto weight = [&](const std::string& name, int64_t rows) {
    return &AddParameter(name, {rows, spec.width}, Init::Normal(spec.init_std));
  };
  const auto norm = [&](const std::string& name) {
    return spec.qk_norm
               ? &AddParameter(name, {spec.head_dim_qk}, Init::Ones(), /*weight_decay=*/false)
               : nullptr;
  };
  q_proj_ = weight("q_proj.weight", spec.num_heads * spec.head_dim_qk);
  q_norm_ = norm("q_norm.weight");
  for (int c = 0; c < 3; ++c) {
    const std::string branch = kBranchNames[c];
    branches_[c].k_proj = weight(branch + "_k_proj.weight", spec.num_groups * spec.head_dim_qk);
    branches_[c].k_norm = norm(branch + "_k_norm.weight");
    branches_[c].v_proj = weight(branch + "_v_proj.weight", spec.num_groups * spec.head_dim_v);
  }
  gate_proj_ = weight("gate_proj.weight", 3 * spec.num_heads);
  AddModule("phi_k", &phi_k_);
  AddModule("phi_v", &phi_v_);
  o_proj_ = &AddParameter("o_proj.weight", {spec.width, spec.num_heads * spec.head_dim_v},
                          Init::Normal(spec.out_std));
}

NsaInputs NsaAttention::Project(Tape& tape, const Variable& x) {
  const auto key = [&](const Branch& b) {
    return ProjectHeads(tape, x, *b.k_proj, spec_.head_dim_qk, b.k_norm, spec_.norm_eps);
  };
  const auto value = [&](const Branch& b) {
    return ProjectHeads(tape, x, *b.v_proj, spec_.head_dim_v, nullptr, 0);
  };
  NsaInputs in;
  in.q = ProjectHeads(tape, x, *q_proj_, spec_.head_dim_qk, q_norm_, spec_.norm_eps);
  in.k_cmp = key(branches_[0]);
  in.v_cmp = value(branches_[0]);
  in.k_slc = key(branches_[1]);
  in.v_slc = value(branches_[1]);
  in.k_win = key(branches_[2]);
  in.v_win = value(branches_[2]);
  in.gate = Gate(tape, Reshape(tape, Linear(tape, x, *gate_proj_), {x.dim(0), spec_.num_heads, 3}));
  return in;
}

Variable NsaAttention::Forward(ForwardContext& ctx, const Variable& x, const Variable& residual) {
  Tape& tape = ctx.tape;
  spec_.rope->Prepare(ctx.sequences.max_length());
  const std::shared_ptr<const NsaGrid> grid = NsaGrid::Of(ctx.sequences, config_, ctx.row_subset());
  NsaInputs in = Project(tape, x);
  const Tensor gate = in.gate.value();
  const NsaResult result =
      NsaOperator(tape, std::move(in), phi_k_, phi_v_, grid, *spec_.rope, config_,
                  {.blocks = {}, .entropy = ctx.reporting() != nullptr}, ctx.context);
  if (ctx.reporting() != nullptr) Report(ctx, gate, result, *grid);
  return Linear(tape, Reshape(tape, result.o, {x.dim(0), spec_.num_heads * spec_.head_dim_v}),
                *o_proj_, residual, ctx.output_is_read);
}

void NsaAttention::Report(ForwardContext& ctx, const Tensor& gate, const NsaResult& result,
                          const NsaGrid& grid) const {
  Tensor sums = Tensor::Empty({kNumNsaStatistics}, DType::kF64, gate.device());
  ops::NsaStatistics({.gate = gate.Ref(),
                      .entropy = result.entropy.Ref(),
                      .blocks = result.blocks.Ref(),
                      .positions = grid.positions.Ref(),
                      .sums = sums.MutableRef(),
                      .select_block = config_.select_block,
                      .window = config_.window},
                     ctx.stream());
  const auto gates = static_cast<double>(gate.dim(0) * gate.dim(1));
  ctx.metrics->AddLater(
      {sums}, [name = name(), gates](Metrics& metrics, const std::vector<Tensor>& tensors) {
        ReportStatistics(name, tensors[0].ToDoubles(), gates, &metrics);
      });
}

std::unique_ptr<AttentionCache> NsaAttention::NewCache() const {
  return std::make_unique<NsaCache>(config_);
}

void NsaAttention::Step(const NsaInputs& in, const PackedSequences& tokens,
                        const std::vector<AttentionCache*>& caches,
                        const std::vector<size_t>& which, const std::vector<int64_t>& rows,
                        Stream stream, Tensor* o) {
  if (which.empty()) return;
  std::vector<NewToken> step;
  std::vector<int64_t> addresses;
  for (size_t i = 0; i < which.size(); ++i) {
    auto& cache = static_cast<NsaCache&>(*caches[which[i]]);
    cache.Grow(in);
    cache.AddAddresses(&addresses);
    step.push_back({rows[i], cache.length()});
  }
  Tensor blocks =
      Tensor::Empty({static_cast<int64_t>(which.size()), spec_.num_groups, config_.num_selected},
                    DType::kI32, o->device());
  DecodeNsa(in, *NsaStep::Of(tokens, config_, step),
            addresses_.Update(std::move(addresses), kNumCacheColumns, o->device()), config_, phi_k_,
            phi_v_, *spec_.rope, stream, o, &blocks);
  const Tensor on_host = observer_ ? blocks.To(kCpu) : Tensor();
  for (size_t i = 0; i < which.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    static_cast<NsaCache&>(*caches[which[i]]).set_blocks(blocks.Slice(row, row + 1));
    if (observer_) observer_(which[i], on_host.Slice(row, row + 1));
  }
}

Tensor NsaAttention::Extend(const Tensor& x, const PackedSequences& tokens,
                            const std::vector<AttentionCache*>& caches, Stream stream) {
  Tape tape(Tape::Mode::kInference, stream);
  spec_.rope->Prepare(LongestContinued(tokens, caches));
  const NsaInputs in = Project(tape, Variable(x));
  Tensor o = Tensor::Empty({x.dim(0), spec_.num_heads, spec_.head_dim_v}, x.dtype(), x.device());
  std::vector<size_t> steps;  // caches that go on by one token
  std::vector<int64_t> rows;  // of these
  for (size_t i = 0; i < caches.size(); ++i) {
    const int64_t begin = tokens.host_cu_seqlens()[i], end = tokens.host_cu_seqlens()[i + 1];
    auto& cache = static_cast<NsaCache&>(*caches[i]);
    if (end - begin == 1) {
      steps.push_back(i);
      rows.push_back(begin);
    } else if (cache.length() == 0 && end > begin) {
      const auto alone = tokens.Derived<PackedSequences>(
          fmt::format("single.{}", end - begin),
          [&] { return PackedSequences::Single(end - begin).To(tokens.device()); });
      const std::shared_ptr<const NsaGrid> grid = NsaGrid::Of(*alone, config_);
      const NsaInputs prompt = RowsOf(in, begin, end);
      const NsaResult result =
          NsaOperator(tape, prompt, phi_k_, phi_v_, grid, *spec_.rope, config_);
      cache.FillFromPrompt(prompt, result);
      o.Slice(begin, end).CopyFrom(result.o.value());
    } else {
      for (int64_t n = begin; n < end; ++n) Step(in, tokens, caches, {i}, {n}, stream, &o);
    }
  }
  Step(in, tokens, caches, steps, rows, stream, &o);
  return Linear(tape, Variable(o.Reshape({x.dim(0), -1})), *o_proj_).value();
}

}  // namespace lacuna
