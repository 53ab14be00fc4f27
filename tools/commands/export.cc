// lacuna export, lacuna import: to and from the folders of Hugging Face's libraries.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>

#include "core/io/file.h"
#include "core/parallel.h"
#include "core/status.h"
#include "recipes/export/exporter.h"
#include "recipes/export/importer.h"
#include "recipes/trainer/progress.h"
#include "tools/command.h"

namespace lacuna::tools {
namespace {

struct Options {
  ExportOptions options;
  std::string architecture = "auto", dtype = "bf16";
  int threads = 0;
};

// "100.0 %" only where it is all.
std::string Percent(double share) {
  return fmt::format("{:.1f} %", share < 1 ? std::min(100 * share, 99.9) : 100.0);
}

// The least agreement of any layer.
std::string Least(const std::vector<ReferenceTrace::Layer>& layers,
                  DecisionAgreement ReferenceTrace::Layer::*kind) {
  double least = 1;
  for (const auto& layer : layers) least = std::min(least, (layer.*kind).share());
  return Percent(least);
}

void Print(const ExportSummary& summary, const std::string& out_dir) {
  const Verification& v = summary.verification;
  const LogitAgreement &exact = v.logits, &rounding = summary.rounding;
  fmt::print("{}: {}, {}, {} tensors, {}\n", summary.facts.checkpoint,
             ArchitectureName(summary.facts.architecture), NameOf(summary.facts.dtype),
             summary.facts.map.size(), FormatBytes(summary.facts.bytes));
  fmt::print("read back and compared on {} {}:\n", summary.probe.ids.size(), summary.probe.origin);
  fmt::print("  logits           largest difference {:.2g} (allowed {:.2g}), top-1 agreement {}\n",
             exact.max_difference, v.limit, Percent(exact.top1));
  if (std::any_of(v.layers.begin(), v.layers.end(),
                  [](const auto& layer) { return layer.experts.compared > 0; }))
    fmt::print("  experts          the same for {} of the tokens, in the worst layer\n",
               Least(v.layers, &ReferenceTrace::Layer::experts));
  if (std::any_of(v.layers.begin(), v.layers.end(),
                  [](const auto& layer) { return layer.blocks.compared > 0; }))
    fmt::print("  selected blocks  the same for {} of the queries, in the worst layer\n",
               Least(v.layers, &ReferenceTrace::Layer::blocks));
  fmt::print("  greedy           {} of {} x {} tokens the same\n", Percent(v.greedy),
             v.continuations.size(), kGreedyTokens);
  if (v.yarn_factor != 1)
    fmt::print("  YaRN             factor {}, attention factor {:.6f}\n", v.yarn_factor,
               v.attention_factor);
  fmt::print(
      "  weights in {:<6}largest difference of logits {:.2g}, KL {:.2g}, top-1 agreement {}\n",
      NameOf(summary.facts.dtype), rounding.max_difference, rounding.kl_mean,
      Percent(rounding.top1));
  fmt::print("wrote {} (export_report.json has the details)\n", out_dir);
}

absl::Status Export(const Options& given) {
  if (given.threads > 0) SetNumThreads(given.threads);
  ExportOptions options = given.options;
  options.dtype = given.dtype == "f32" ? DType::kF32 : DType::kBF16;
  if (given.architecture == "glm4_moe") options.architecture = ExportArchitecture::kGlm4Moe;
  if (given.architecture == "nsa_moe") options.architecture = ExportArchitecture::kNsaMoe;
  LACUNA_ASSIGN_OR_RETURN(const ExportSummary summary, ExportRun(options));
  Print(summary, options.out_dir);
  return absl::OkStatus();
}

absl::Status Import(const ImportOptions& options) {
  LACUNA_ASSIGN_OR_RETURN(const ImportSummary summary, ImportRun(options));
  fmt::print("{}: {} tensors, {} parameters, {} attention -> {}\n", options.folder, summary.tensors,
             FormatCount(summary.parameters), summary.recipe.uses_nsa() ? "native sparse" : "full",
             summary.checkpoint);
  if (options.recipe.empty())
    fmt::print(
        "{}/recipe.yaml has the model's keys and defaults; give it data.sources before "
        "training\n",
        options.run_dir);
  return absl::OkStatus();
}

}  // namespace

void AddExportCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "export", "Writes a run's model as a folder for Hugging Face's libraries, and checks it");
  command->add_option("run_dir", options->options.run_dir, "folder of the run (run.dir)")
      ->required();
  command->add_option("out_dir", options->options.out_dir, "folder to make")->required();
  command->add_option("--step", options->options.step,
                      "checkpoint of this step (default: the latest good one)");
  command
      ->add_option("--architecture", options->architecture,
                   "auto: glm4_moe for full attention (loads anywhere), nsa_moe with its own "
                   "PyTorch code for sparse attention")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "glm4_moe", "nsa_moe"}));
  command->add_option("--dtype", options->dtype, "of the weights; the router's stay f32")
      ->capture_default_str()
      ->check(CLI::IsMember({"bf16", "f32"}));
  command
      ->add_option("--hf-compat", options->options.transformers,
                   "major version of transformers that config.json is for")
      ->capture_default_str()
      ->check(CLI::IsMember({4, 5}));
  command
      ->add_option("--probe-tokens", options->options.probe_tokens,
                   "held-out tokens to compare on (default: enough to leave blocks out)")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--threads", options->threads, "CPU threads (default: all)");
  command->footer("Example:\n  lacuna export runs/quickstart_nsa exported/quickstart_nsa");
  command->callback([options, &run] { run = [options] { return Export(*options); }; });
}

void AddImportCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<ImportOptions>();
  CLI::App* command =
      app.add_subcommand("import", "Makes a run of a folder that lacuna export wrote");
  command->add_option("folder", options->folder, "folder with config.json and model.safetensors")
      ->required();
  command->add_option("run_dir", options->run_dir, "folder of the run to make")->required();
  command->add_option("--recipe", options->recipe,
                      "recipe for the keys that config.json does not know");
  command->footer("Example:\n  lacuna import exported/quickstart_nsa runs/again");
  command->callback([options, &run] { run = [options] { return Import(*options); }; });
}

}  // namespace lacuna::tools
