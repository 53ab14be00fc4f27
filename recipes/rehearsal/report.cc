#include "recipes/rehearsal/report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/out_of_memory.h"
#include "recipes/plan/model_size.h"
#include "recipes/plan/rank_report.h"
#include "recipes/plan/step_time.h"
#include "recipes/schema/recipe_keys.h"
#include "recipes/trainer/device.h"
#include "recipes/trainer/progress.h"

namespace lacuna {
namespace {

double Real(int64_t n) {
  return static_cast<double>(n);
}
std::string Milliseconds(double seconds) {
  return fmt::format("{:.1f} ms", 1e3 * seconds);
}
std::string Percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}
std::string Gigabytes(double bytes) {
  return fmt::format("{:.3f} GB", bytes / 1e9);
}
// Of a step on this rank that takes `seconds`.
double TokensPerSecond(const Recipe& recipe, const RehearsalResult& result, double seconds) {
  return result.tokens(recipe) / seconds;
}
double Flops(const Recipe& recipe, const RehearsalResult& result, double seconds) {
  return TokensPerSecond(recipe, result, seconds) * FlopsPerToken(recipe).total();
}
std::string Rate(const Recipe& recipe, const RehearsalResult& result, double seconds) {
  return fmt::format("{} tokens/s, {:.2f} TFLOP/s",
                     FormatCount(static_cast<int64_t>(TokensPerSecond(recipe, result, seconds))),
                     Flops(recipe, result, seconds) / 1e12);
}
double Difference(int64_t planned, int64_t measured) {
  return measured == 0 ? 0 : Real(planned - measured) / Real(measured);
}

void AppendCompute(const Recipe& recipe, const RehearsalOptions& options,
                   const RehearsalResult& result, std::string* out) {
  *out += fmt::format(
      "\nCompute of a step, measured ({} micro-batches of {}; median of {} steps of {})\n",
      result.recipe_micro_batches,
      FormatCount(recipe.train.micro_batch * recipe.train.sequence_length /
                  recipe.parallel.context),
      options.steps - options.warmup, result.micro_batches);
  AppendRow("a micro-batch", Milliseconds(result.micro_batch), "", out);
  AppendRow("once a step", Milliseconds(result.once), "optimizer, clipping, the step's numbers",
            out);
  AppendRow("step", Milliseconds(result.step.compute), Rate(recipe, result, result.step.compute),
            out);
  AppendRow("least, most", "",
            fmt::format("{}, {}", Milliseconds(result.least), Milliseconds(result.most)), out);
  AppendRow("FLOPs per token", fmt::format("{:.4g} GF", FlopsPerToken(recipe).total() / 1e9),
            "recomputation not counted; one document a sample", out);
  AppendRow("documents of a sample", fmt::format("{:.2f}", result.documents_per_sample),
            options.random_data ? "seeded tokens, not the recipe's data" : "the recipe's data",
            out);
  AppendRow("local copies", Milliseconds(result.copies),
            "in place of collectives, of a rehearsed step; no part of the times above", out);
}

void AppendMemory(const Recipe& recipe, const RehearsalOptions& options,
                  const RehearsalResult& result, std::string* out) {
  *out += fmt::format("\n  {:<34}{:>14}{:>14}{:>12}\n", "Memory at the peak", "measured", "planned",
                      "plan is off");
  const MemoryComparison comparison = CompareMemory(recipe, options, result);
  const auto row = [&](const char* name, int64_t measured, int64_t planned) {
    *out += fmt::format("  {:<34}{:>14}{:>14}{:>+10.1f} %\n", name, FormatMemory(measured),
                        FormatMemory(planned), 100 * Difference(planned, measured));
  };
  for (const auto& part : comparison.parts) row(part.name, part.measured, part.planned);
  row("total", comparison.measured(), comparison.planned());
  for (size_t c = 0; c < kNumMemoryCategories; ++c) {
    const int64_t bytes = result.memory.categories[c].at_peak;
    if (bytes > 0)
      AppendRow(fmt::format("  {}", NameOf(static_cast<MemoryCategory>(c))), FormatMemory(bytes),
                "", out);
  }
  AppendRow("reserved by the pool", FormatMemory(result.memory.reserved), "", out);
  AppendRow("building the rank took", FormatMemory(result.memory_at_start), "at its peak", out);
  if (result.draws > 0)
    AppendRow("drawn choices", FormatMemory(result.draws),
              "the rehearsal's own, in none of the rows but the last category", out);
}

void AppendRows(const RehearsalResult& result, std::string* out) {
  const RehearsalResult::Arrived& arrived = result.arrived;
  if (arrived.even_share == 0) return;
  *out += "\nRows that come to a layer's experts, drawn\n";
  AppendRow("rows (tokens) a micro-batch", fmt::format("{:.0f}", arrived.mean_rows),
            fmt::format("mean; at most {}", FormatCount(arrived.most_rows)), out);
  AppendRow("choices", fmt::format("{:.0f}", arrived.mean_choices),
            fmt::format("mean; at most {}; even share {:.0f}: {:.3f} and {:.3f} of it",
                        FormatCount(arrived.most_choices), arrived.even_share,
                        arrived.mean_choices / arrived.even_share,
                        Real(arrived.most_choices) / arrived.even_share),
            out);
  AppendRow("choices of the fullest expert", FormatCount(arrived.fullest_expert), "", out);
}

void AppendStep(const Recipe& recipe, const RehearsalOptions& options,
                const RehearsalResult& result, std::string* out) {
  *out += "\nA rank's link in a step\n";
  for (size_t k = 0; k < result.volumes.of_kind.size(); ++k) {
    const PhaseVolumes::Volume& volume = result.volumes.of_kind[k];
    if (volume.collectives == 0) continue;
    AppendRow(NameOf(static_cast<CollectiveKind>(k)), Gigabytes(volume.link_bytes),
              fmt::format("in {} collectives", FormatCount(volume.collectives)), out);
  }
  if (result.volumes.on_host > 0)
    AppendRow("of the host alone", "",
              fmt::format("{} collectives, not modelled", FormatCount(result.volumes.on_host)),
              out);
  const ModelledStep& step = result.step;
  *out += fmt::format(
      "\nStep, modelled (all-to-all {:.0f} GB/s, other collectives {:.0f} GB/s, {:.0f} us each; "
      "one "
      "link)\n",
      options.rates.all_to_all / 1e9, options.rates.collective / 1e9, 1e6 * options.rates.latency);
  AppendRow("compute", Milliseconds(step.compute), "", out);
  AppendRow("communication", Milliseconds(step.communication),
            fmt::format("{} of both, were nothing overlapped", Percent(step.communication_share())),
            out);
  AppendRow("exposed", Milliseconds(step.exposed),
            fmt::format("{} of the step", Percent(step.exposed_share())), out);
  for (size_t k = 0; k < step.exposed_of_kind.size(); ++k) {
    const double exposed = step.exposed_of_kind[k];
    if (exposed > 0)
      AppendRow(fmt::format("  {}", NameOf(static_cast<CollectiveKind>(k))), Milliseconds(exposed),
                fmt::format("{} of the step", Percent(exposed / step.total())), out);
  }
  AppendRow("reading data", Milliseconds(step.loading), "the device waits", out);
  AppendRow("step", Milliseconds(step.total()), Rate(recipe, result, step.total()) + " a GPU", out);
}

}  // namespace

int64_t MemoryComparison::measured() const {
  int64_t sum = 0;
  for (const Part& part : parts) sum += part.measured;
  return sum;
}
int64_t MemoryComparison::planned() const {
  int64_t sum = 0;
  for (const Part& part : parts) sum += part.planned;
  return sum;
}

MemoryComparison CompareMemory(const Recipe& recipe, const RehearsalOptions& options,
                               const RehearsalResult& result) {
  const RankMemory plan = EstimateMemory(recipe, options.ranks, options.balance);
  const auto at_peak = [&](MemoryCategory category) { return result.memory.of(category).at_peak; };
  const int64_t weights = at_peak(MemoryCategory::kParameters),
                gradients = at_peak(MemoryCategory::kGradients),
                optimizer = at_peak(MemoryCategory::kOptimizer);
  return {{{"weights", weights, plan.weights},
           {"gradients", gradients, plan.gradients},
           {"optimizer", optimizer, plan.master + plan.moments},
           {"activations, buffers, workspace",
            result.memory.peak - result.draws - weights - gradients - optimizer,
            plan.total() - plan.states()}}};
}

std::string RehearsalText(const Recipe& recipe, const RehearsalOptions& options,
                          const RehearsalResult& result) {
  std::string out = fmt::format(
      "rehearsal: one rank of {} on one card; communication is local copies; step time is "
      "modelled\n"
      "{}: rank {} of {}, parallel.expert = {}, parallel.context = {}, parallel.zero = {}, "
      "recompute: {}; on {}\n",
      options.ranks, recipe.run.name, options.rank, options.ranks, recipe.parallel.expert,
      recipe.parallel.context, recipe.parallel.zero, Describe(recipe.train.recompute),
      Describe(result.device));
  AppendCompute(recipe, options, result, &out);
  AppendMemory(recipe, options, result, &out);
  AppendRows(result, &out);
  AppendStep(recipe, options, result, &out);
  return out;
}

std::string RehearsalJson(const Recipe& recipe, const RehearsalOptions& options,
                          const RehearsalResult& result) {
  using nlohmann::json;
  const ModelledStep& step = result.step;
  json memory = {{"reserved", result.memory.reserved},
                 {"at_start", result.memory_at_start},
                 {"drawn_choices", result.draws}};
  const MemoryComparison comparison = CompareMemory(recipe, options, result);
  for (const auto& part : comparison.parts)
    memory["compared"][part.name] = {{"measured", part.measured}, {"planned", part.planned}};
  memory["compared"]["total"] = {{"measured", comparison.measured()},
                                 {"planned", comparison.planned()}};
  for (size_t c = 0; c < kNumMemoryCategories; ++c)
    memory["categories"][NameOf(static_cast<MemoryCategory>(c))] =
        result.memory.categories[c].at_peak;
  json volumes = {{"host_collectives", result.volumes.on_host}};
  for (size_t k = 0; k < result.volumes.of_kind.size(); ++k) {
    const PhaseVolumes::Volume& volume = result.volumes.of_kind[k];
    volumes[NameOf(static_cast<CollectiveKind>(k))] = {{"collectives", volume.collectives},
                                                       {"bytes", volume.link_bytes}};
  }
  const auto rates = [&](double seconds) {
    return json{{"seconds", seconds},
                {"tokens_per_second", TokensPerSecond(recipe, result, seconds)},
                {"flops_per_second", Flops(recipe, result, seconds)}};
  };
  json compute = rates(step.compute);
  compute["micro_batch"] = result.micro_batch;
  compute["once"] = result.once;
  compute["least"] = result.least;
  compute["most"] = result.most;
  compute["copies"] = result.copies;
  json modelled = rates(step.total());
  modelled["communication"] = step.communication;
  modelled["communication_share"] = step.communication_share();
  modelled["exposed"] = step.exposed;
  modelled["exposed_share"] = step.exposed_share();
  for (size_t k = 0; k < step.exposed_of_kind.size(); ++k)
    modelled["exposed_of_kind"][NameOf(static_cast<CollectiveKind>(k))] = step.exposed_of_kind[k];
  modelled["loading"] = step.loading;
  modelled["all_to_all_rate"] = options.rates.all_to_all;
  modelled["collective_rate"] = options.rates.collective;
  modelled["latency"] = options.rates.latency;
  const RehearsalResult::Arrived& arrived = result.arrived;
  const json document = {
      {"what",
       "rehearsal: one rank on one card; communication is local copies; step time is modelled"},
      {"recipe", recipe.run.name},
      {"device", Describe(result.device)},
      {"ranks", options.ranks},
      {"rank", options.rank},
      {"steps", options.steps},
      {"not_counted", options.warmup},
      {"micro_batches",
       {{"rehearsed", result.micro_batches}, {"step", result.recipe_micro_batches}}},
      {"random_data", options.random_data},
      {"documents_per_sample", result.documents_per_sample},
      {"balance", options.balance},
      {"flops_per_token", FlopsPerToken(recipe).total()},
      {"losses", result.losses},
      {"compute", compute},
      {"memory", memory},
      {"arrived",
       {{"mean_rows", arrived.mean_rows},
        {"most_rows", arrived.most_rows},
        {"mean_choices", arrived.mean_choices},
        {"most_choices", arrived.most_choices},
        {"fullest_expert", arrived.fullest_expert},
        {"even_share", arrived.even_share}}},
      {"link", volumes},
      {"modelled", modelled}};
  return document.dump(1) + "\n";
}

}  // namespace lacuna
