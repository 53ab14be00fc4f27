// A mixture-of-experts layer with parameters of its own, and the same problem for the naive
// reference.
#pragma once

#include <string>
#include <vector>

#include "autograd/recompute.h"
#include "core/stream.h"
#include "moe/moe_layer.h"
#include "nn/flat_parameters.h"
#include "nn/metrics.h"
#include "tests/moe/naive_moe.h"
#include "tests/support/random.h"

namespace lacuna::test {

struct StepOptions {
  Metrics* metrics = nullptr;
  int64_t rows_per_sample = 0;
  double share = 1;
  bool recompute = false;
  bool fire_hooks = false;
};

class MoeFixture {
 public:
  MoeFixture(int64_t width, const MoeConfig& config, DType dtype, uint64_t seed = 1,
             Device device = kCpu, Communicator* expert_group = nullptr, int64_t chunks = 1)
      : width_(width),
        config_(config),
        stream_(ComputeStream(device)),
        layer_(width, config, 0.5, 0.5, dtype, device, expert_group, chunks) {
    layer_.SetName("layers.3.mlp");
    flat_ = std::make_unique<FlatParameters>(layer_, dtype, seed, /*gradients=*/true, device);
  }

  MoeLayer& layer() { return layer_; }
  FlatParameters& flat() { return *flat_; }
  Parameter& Get(const std::string& name) {
    Parameter* found = nullptr;
    layer_.ForEachParameter([&](Parameter& p) {
      if (p.name == "layers.3.mlp." + name) found = &p;
    });
    LACUNA_CHECK(found != nullptr, "no parameter {}", name);
    return *found;
  }
  Tensor& Bias() {
    Tensor* found = nullptr;
    layer_.ForEachBuffer([&](const std::string& name, Tensor& buffer) {
      LACUNA_CHECK(name == "layers.3.mlp.gate.e_score_correction_bias", "unexpected buffer {}",
                   name);
      found = &buffer;
    });
    LACUNA_CHECK(found != nullptr, "no bias");
    return *found;
  }

  // Forward and backward of one micro-batch; parameter gradients add up. Returns {y, dx}.
  std::vector<Tensor> Step(const Tensor& x, const Tensor& dy, const StepOptions& options = {}) {
    Tape tape(Tape::Mode::kRecord, stream_);
    const PackedSequences sequences = PackedSequences::Single(x.dim(0));
    const Segment segment = [&](Tape& t, const std::vector<Variable>& in) {
      ForwardContext ctx{.tape = t,
                         .sequences = sequences,
                         .metrics = options.metrics,
                         .rows_per_sample = options.rows_per_sample,
                         .micro_batch_share = options.share,
                         .output_is_read = !t.recomputing()};
      return std::vector<Variable>{layer_.Forward(ctx, in[0], {})};
    };
    const Variable leaf = tape.Leaf(x);
    const Variable y =
        options.recompute ? Recompute(tape, "mlp", {leaf}, segment)[0] : segment(tape, {leaf})[0];
    if (between) between();
    tape.Backward({{y, dy}}, options.fire_hooks);
    return {y.value(), tape.Grad(leaf)};
  }
  Tensor Infer(const Tensor& x, Metrics* metrics = nullptr) {
    Tape tape(Tape::Mode::kInference, stream_);
    const PackedSequences sequences = PackedSequences::Single(x.dim(0));
    ForwardContext ctx{.tape = tape, .sequences = sequences, .metrics = metrics};
    return layer_.Forward(ctx, Variable(x), {}).value();
  }

  NaiveMoe Naive(const Tensor& x) {
    NaiveMoe m{.rows = x.dim(0),
               .width = width_,
               .experts = config_.num_experts,
               .chosen = config_.experts_per_token,
               .hidden = config_.expert_width,
               .shared_hidden = config_.num_shared * config_.expert_width,
               .softmax = config_.router == RouterKind::kSoftmax,
               .normalize = config_.normalize_weights,
               .scale = config_.routed_scale,
               .x = x.ToDoubles(),
               .gate = Get("gate.weight").value.ToDoubles(),
               .bias = {},
               .gate_up = Get("experts.gate_up_proj.weight").value.ToDoubles(),
               .down = Get("experts.down_proj.weight").value.ToDoubles(),
               .shared_gate_up = {},
               .shared_down = {}};
    if (!m.softmax) m.bias = Bias().ToDoubles();
    if (config_.num_shared > 0) {
      m.shared_gate_up = Get("shared_experts.gate_up_proj.weight").value.ToDoubles();
      m.shared_down = Get("shared_experts.down_proj.weight").value.ToDoubles();
    }
    return m;
  }

  std::function<void()> between;  // runs between forward and backward of Step

 private:
  int64_t width_;
  MoeConfig config_;
  Stream stream_;
  MoeLayer layer_;
  std::unique_ptr<FlatParameters> flat_;
};

}  // namespace lacuna::test
