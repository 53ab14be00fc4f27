#include "recipes/plan/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "recipes/plan/host_report.h"
#include "recipes/plan/model_size.h"
#include "recipes/plan/yarn.h"
#include "recipes/schema/recipe_keys.h"
#include "recipes/trainer/progress.h"

namespace lacuna {
namespace {

void AppendTitle(const std::string& title, std::string* out) {
  *out += "\n" + title + "\n";
}

// Parameters of a part, with its share of the total.
void AppendPart(const std::string& label, int64_t count, int64_t total, std::string* out) {
  if (count == 0) return;
  AppendRow(label, FormatCount(count),
            fmt::format("{:5.1f} %", 100 * static_cast<double>(count) / static_cast<double>(total)),
            out);
}

void AppendParameters(const Recipe& recipe, std::string* out) {
  const ParameterCounts n = CountParameters(recipe);
  AppendTitle("Parameters", out);
  AppendPart(recipe.model.tie_embeddings ? "embedding (tied head)" : "embedding and head",
             n.embeddings, n.total(), out);
  AppendPart("attention (q, k, v, o)", n.attention, n.total(), out);
  AppendPart("NSA (2 more k and v, phi, gates)", n.nsa, n.total(), out);
  AppendPart("dense feed-forward", n.dense_ffn, n.total(), out);
  AppendPart("shared experts", n.shared_experts, n.total(), out);
  AppendPart("routed experts", n.routed_experts, n.total(), out);
  AppendPart("router", n.router, n.total(), out);
  AppendPart("norms", n.norms, n.total(), out);
  AppendRow("total", FormatCount(n.total()), FormatMagnitude(static_cast<double>(n.total())), out);
  if (!recipe.uses_moe()) return;
  AppendRow("active: experts of a token", FormatCount(n.active_experts()),
            FormatMagnitude(static_cast<double>(n.active_experts())), out);
  AppendRow(
      "active: all that a token uses", FormatCount(n.active()),
      FormatMagnitude(static_cast<double>(n.active())) + ", experts, attention, embedding and head",
      out);
}

void AppendFlops(const Recipe& recipe, std::string* out) {
  const TrainingFlops f = FlopsPerToken(recipe);
  AppendTitle(
      "Training FLOPs per token (forward and backward; a multiply-add is 2; recomputation not "
      "counted)",
      out);
  AppendRow("matrices", FormatMagnitude(f.matrices),
            "6 x active parameters, less embedding, norms and phi", out);
  if (recipe.uses_nsa()) {
    AppendRow("phi", FormatMagnitude(f.phi), "6 x its matrices x groups x blocks / T", out);
    AppendRow("attention", FormatMagnitude(f.attention),
              fmt::format("6 H (Dk + Dv) pairs / T a layer; {:.1f} % of full attention's",
                          100 * f.attention / f.full_attention),
              out);
  } else {
    AppendRow("attention", FormatMagnitude(f.attention), "6 H (Dk + Dv) pairs / T a layer", out);
  }
  AppendRow("total", FormatMagnitude(f.total()),
            fmt::format("one document of T = {} tokens", FormatCount(recipe.train.sequence_length)),
            out);
}

void AppendRun(const Recipe& recipe, int64_t ranks, std::string* out) {
  const TrainConfig& t = recipe.train;
  const int64_t step = t.global_batch * t.sequence_length;
  const double tokens =
      static_cast<double>(t.SamplesIn(t.steps)) * static_cast<double>(t.sequence_length);
  AppendTitle("Run", out);
  AppendRow("tokens of a step", FormatCount(step),
            fmt::format("{} samples x {}", t.global_batch, FormatCount(t.sequence_length)), out);
  for (const BatchPhase& phase : t.batch_warmup) {
    AppendRow("  in a warm-up phase", FormatCount(phase.global_batch * t.sequence_length),
              fmt::format("{} samples, {} steps", phase.global_batch, FormatCount(phase.steps)),
              out);
  }
  AppendRow("micro-batches of a step and rank",
            FormatCount(t.global_batch * recipe.parallel.context / (ranks * t.micro_batch)), "",
            out);
  AppendRow("steps", FormatCount(t.steps), "", out);
  AppendRow("tokens", FormatMagnitude(tokens), "", out);
  AppendRow("training FLOPs", fmt::format("{:.3g}", tokens * FlopsPerToken(recipe).total()), "",
            out);
}

void AppendPositions(const Recipe& recipe, std::string* out) {
  const std::string yarn = YarnSummary(recipe.model);
  if (yarn.empty()) return;
  AppendTitle("Positions", out);
  *out += fmt::format("  {}\n  inverse frequencies: plain, resolved\n", yarn) +
          FrequencyTable(recipe.model);
}

void AppendSparsity(const Recipe& recipe, std::string* out) {
  if (!recipe.uses_nsa()) return;
  const NsaConfig& nsa = recipe.nsa;
  const int64_t length = recipe.train.sequence_length;
  const int64_t read = SelectedTokens(nsa, length) + std::min(nsa.window, length);
  AppendTitle("Sparsity", out);
  const double share = 100 * static_cast<double>(read) / static_cast<double>(length);
  const char* verdict =
      4 * read <= length
          ? "sparsity bites"
          : "hardly sparse: raise train.sequence_length, or lower num_selected or window";
  AppendRow("selected + window, last position", FormatCount(read),
            fmt::format("of {} tokens ({:.1f} %): {}", FormatCount(length), share, verdict), out);
  for (int64_t context = length; context <= 8 * length; context *= 2) {
    const int64_t tokens = TokensReadPerDecodeStep(nsa, context);
    AppendRow(fmt::format("read per decode step at {}", FormatCount(context)), FormatCount(tokens),
              fmt::format("tokens a KV head, {:.1f} x fewer than full attention",
                          static_cast<double>(context) / static_cast<double>(tokens)),
              out);
  }
}

}  // namespace

std::string FormatMagnitude(double value) {
  constexpr const char* kUnits[] = {"", " K", " M", " B", " T", " Qa"};
  size_t unit = 0;
  while (std::abs(value) >= 999.995 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.{}f}{}", value, unit == 0 ? 0 : 2, kUnits[unit]);
}

std::string PlanText(const Recipe& recipe, const PlanOptions& options) {
  const ModelConfig& m = recipe.model;
  std::string experts = "dense";
  if (recipe.uses_moe()) {
    experts = fmt::format("{} experts top-{} + {} shared", recipe.moe.num_experts,
                          recipe.moe.experts_per_token, recipe.moe.num_shared);
  }
  std::string out = fmt::format(
      "{}: {} layers of width {}, {} attention, {}, {}\n", recipe.run.name, m.num_layers, m.width,
      recipe.uses_nsa() ? "native sparse" : "full", experts, NameOf(recipe.train.dtype));
  AppendParameters(recipe, &out);
  AppendFlops(recipe, &out);
  out += MemoryText(recipe, options);
  out += HostMemoryText(recipe, options);
  AppendRun(recipe, options.ranks, &out);
  out += StepText(recipe, options);
  AppendSparsity(recipe, &out);
  AppendPositions(recipe, &out);
  return out;
}

std::string KeysText() {
  std::string out;
  for (const KeyInfo& key : RecipeKeys()) {
    if (key.path.find('.') == key.path.npos) {
      out += fmt::format("{}{}:  {}\n", out.empty() ? "" : "\n", key.path, key.doc);
    } else {
      const std::string value = key.default_text == "\"\"" ? "" : key.default_text;
      out += fmt::format("  {:<34} {:<10} {}: {}\n", key.path, value, key.type, key.doc);
    }
  }
  return out;
}

}  // namespace lacuna
