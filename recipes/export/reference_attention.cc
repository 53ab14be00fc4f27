#include "recipes/export/reference_attention.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numbers>

#include "core/parallel.h"

namespace lacuna {
namespace {

size_t At(int64_t i) {
  return static_cast<size_t>(i);
}

// Rotates the first dims of one head at a position: dim i goes with dim i + half.
void Rotate(const ReferenceConfig& config, int64_t position, double* head) {
  const size_t half = config.inverse_frequencies.size();
  for (size_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * config.inverse_frequencies[i];
    const double c = config.attention_factor * std::cos(angle),
                 s = config.attention_factor * std::sin(angle);
    const double a = head[i], b = head[i + half];
    head[i] = a * c - b * s;
    head[i + half] = b * c + a * s;
  }
}

// [T, heads, width] of a projection, normalised by head if asked for.
Doubles Project(const Doubles& x, const ReferenceMatrix& w, const Doubles& norm, double eps) {
  const Doubles y = Multiply(x, w);
  return norm.empty() ? y : RmsNormRows(y, norm, eps);
}

void RotateTokens(const ReferenceConfig& config, int64_t heads, Doubles* x) {
  const int64_t row = heads * config.key_width;
  for (int64_t t = 0; t < static_cast<int64_t>(x->size()) / row; ++t) {
    for (int64_t h = 0; h < heads; ++h)
      Rotate(config, t, x->data() + t * row + h * config.key_width);
  }
}

// One branch, ready to be attended to: rows of G heads.
struct Memory {
  Doubles k, v;
};

// One query head over the rows `rows` of a group -> its output, added to out * factor; p gets the
// probabilities.
void AttendHead(const ReferenceConfig& config, const double* q, const Memory& memory, int64_t group,
                const std::vector<int64_t>& rows, double factor, double* out, Doubles* p) {
  p->resize(rows.size());
  if (rows.empty()) return;
  double top = -HUGE_VAL, sum = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const double* k = memory.k.data() + (rows[i] * config.groups + group) * config.key_width;
    (*p)[i] = Dot(q, k, config.key_width) / std::sqrt(static_cast<double>(config.key_width));
    top = std::max(top, (*p)[i]);
  }
  for (double& score : *p) sum += score = std::exp(score - top);
  for (size_t i = 0; i < rows.size(); ++i) {
    (*p)[i] /= sum;
    const double* v = memory.v.data() + (rows[i] * config.groups + group) * config.value_width;
    for (int64_t c = 0; c < config.value_width; ++c) out[c] += factor * (*p)[i] * v[c];
  }
}

std::vector<int64_t> Range(int64_t begin, int64_t end) {
  std::vector<int64_t> rows;
  for (int64_t i = std::max<int64_t>(begin, 0); i < end; ++i) rows.push_back(i);
  return rows;
}

double Activate(const std::string& kind, double a) {
  if (kind == "silu") return a / (1 + std::exp(-a));
  return a / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (a + 0.044715 * a * a * a)));
}

// x [T, G, D] unrotated -> [Tc, G, D].
Doubles Compress(const ReferenceConfig& config, const ReferencePhi& phi, const Doubles& x,
                 int64_t width) {
  const int64_t row = config.groups * width, tokens = static_cast<int64_t>(x.size()) / row;
  const int64_t blocks = tokens < config.block ? 0 : (tokens - config.block) / config.stride + 1;
  Doubles flat, mean(At(blocks * row), 0.0);
  for (int64_t i = 0; i < blocks; ++i) {
    for (int64_t g = 0; g < config.groups; ++g) {
      for (int64_t u = 0; u < config.block; ++u) {
        const double* token = x.data() + (i * config.stride + u) * row + g * width;
        for (int64_t c = 0; c < width; ++c) {
          mean[At(i * row + g * width + c)] += token[c] / static_cast<double>(config.block);
          if (!phi.position.empty()) flat.push_back(token[c] + phi.position[At(u * width + c)]);
        }
      }
    }
  }
  if (config.phi == "mean" || blocks == 0) return mean;
  Doubles hidden = Multiply(flat, phi.w1);
  if (config.phi == "linear") return hidden;
  for (double& a : hidden) a = Activate(config.phi_activation, a);
  return Multiply(hidden, phi.w2);
}

// One query of one group: all three branches of its heads.
void RunSparseQuery(const ReferenceConfig& config, int64_t t, int64_t group, const double* q,
                    const double* gates, const Memory (&memory)[3], const OtherBlocks& other,
                    std::mutex* mutex, double* out) {
  const int64_t heads = config.heads / config.groups;
  const int64_t complete = t + 1 < config.block ? 0 : (t + 1 - config.block) / config.stride + 1;
  const std::vector<int64_t> compressed = Range(0, complete);
  Doubles p, summed(At(complete), 0.0);
  const auto gate = [&](int64_t h, int64_t branch) {
    return 1 / (1 + std::exp(-gates[3 * (group * heads + h) + branch]));
  };
  const auto attend = [&](int64_t branch, int64_t h, const std::vector<int64_t>& rows) {
    AttendHead(config, q + h * config.key_width, memory[branch], group, rows, gate(h, branch),
               out + h * config.value_width, &p);
  };
  for (int64_t h = 0; h < heads; ++h) {
    attend(0, h, compressed);
    // Where normal f32 numbers end, a probability counts as 0 (nsa/select_blocks.h).
    for (size_t i = 0; i < p.size(); ++i) summed[i] += p[i] < 0x1p-126 ? 0.0 : p[i];
  }
  std::vector<int64_t> selected;
  for (const int64_t j : ReferenceBlocks(config, t, group, summed, other, mutex)) {
    for (const int64_t u :
         Range(j * config.select_block, std::min((j + 1) * config.select_block, t + 1)))
      selected.push_back(u);
  }
  const std::vector<int64_t> window = Range(t - config.window + 1, t + 1);
  for (int64_t h = 0; h < heads; ++h) {
    attend(1, h, selected);
    attend(2, h, window);
  }
}

}  // namespace

ReferenceAttention ReferenceAttention::Take(const ReferenceConfig& config,
                                            const std::string& prefix, ReferenceWeights* weights) {
  const auto norm = [&](const std::string& name) {
    return config.qk_norm ? weights->Take(prefix + name, {config.key_width}).All() : Doubles();
  };
  ReferenceAttention layer;
  layer.q_proj =
      weights->Take(prefix + "q_proj.weight", {config.heads * config.key_width, config.width});
  layer.o_proj =
      weights->Take(prefix + "o_proj.weight", {config.width, config.heads * config.value_width});
  layer.q_norm = norm("q_norm.weight");
  const std::vector<std::string> names =
      config.nsa ? std::vector<std::string>{"cmp_", "slc_", "win_"} : std::vector<std::string>{""};
  for (size_t i = 0; i < names.size(); ++i) {
    ReferenceBranch& branch = layer.branches[i];
    branch.k_proj = weights->Take(prefix + names[i] + "k_proj.weight",
                                  {config.groups * config.key_width, config.width});
    branch.v_proj = weights->Take(prefix + names[i] + "v_proj.weight",
                                  {config.groups * config.value_width, config.width});
    branch.k_norm = norm(names[i] + "k_norm.weight");
  }
  if (!config.nsa) return layer;
  layer.gate_proj = weights->Take(prefix + "gate_proj.weight", {3 * config.heads, config.width});
  if (config.phi == "mean") return layer;
  for (const auto& [phi, kind, width] :
       {std::tuple(&layer.phi_k, "k", config.key_width), {&layer.phi_v, "v", config.value_width}}) {
    const std::string matrices = prefix + "phi_" + kind + ".";
    phi->position = weights->Take(prefix + "cmp_pos_" + kind, {config.block, width}).All();
    if (config.phi == "linear") {
      phi->w1 = weights->Take(matrices + "w.weight", {width, config.block * width});
      continue;
    }
    const int64_t hidden = config.phi_hidden * width;
    phi->w1 = weights->Take(matrices + "w1.weight", {hidden, config.block * width});
    phi->w2 = weights->Take(matrices + "w2.weight", {width, hidden});
  }
  return layer;
}

Doubles RunReferenceAttention(const ReferenceConfig& config, const ReferenceAttention& layer,
                              const Doubles& x, const OtherBlocks& other) {
  const int64_t tokens = static_cast<int64_t>(x.size()) / config.width,
                heads = config.heads / config.groups;
  Doubles q = Project(x, layer.q_proj, layer.q_norm, config.eps);
  RotateTokens(config, config.heads, &q);
  Memory memory[3];
  for (int64_t branch = 0; branch < (config.nsa ? 3 : 1); ++branch) {
    const ReferenceBranch& from = layer.branches[branch];
    Doubles k = Project(x, from.k_proj, from.k_norm, config.eps),
            v = Project(x, from.v_proj, {}, 0);
    if (config.nsa && branch == 0) {
      k = Compress(config, layer.phi_k, k, config.key_width);
      v = Compress(config, layer.phi_v, v, config.value_width);
      for (int64_t r = 0; r < static_cast<int64_t>(k.size()) / config.key_width; ++r)
        Rotate(config, r / config.groups * config.stride + config.block - 1,
               k.data() + r * config.key_width);
    } else {
      RotateTokens(config, config.groups, &k);
    }
    memory[branch] = {std::move(k), std::move(v)};
  }
  const Doubles gates = config.nsa ? Multiply(x, layer.gate_proj) : Doubles();
  Doubles o(At(tokens * config.heads * config.value_width), 0.0);
  std::mutex mutex;
  ParallelFor(tokens * config.groups, 1000 * config.key_width, [&](int64_t i) {
    const int64_t t = i / config.groups, group = i % config.groups, first = group * heads;
    const double* queries = q.data() + (t * config.heads + first) * config.key_width;
    double* out = o.data() + (t * config.heads + first) * config.value_width;
    if (config.nsa) {
      RunSparseQuery(config, t, group, queries, gates.data() + 3 * t * config.heads, memory, other,
                     &mutex, out);
      return;
    }
    Doubles p;
    for (int64_t h = 0; h < heads; ++h)
      AttendHead(config, queries + h * config.key_width, memory[0], group, Range(0, t + 1), 1.0,
                 out + h * config.value_width, &p);
  });
  return Multiply(o, layer.o_proj);
}

}  // namespace lacuna
