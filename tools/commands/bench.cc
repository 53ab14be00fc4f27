// lacuna bench cpu: training speed on this machine, beside its peers.
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/status.h"
#include "recipes/benchmark/step_benchmark.h"
#include "recipes/plan/model_size.h"
#include "recipes/trainer/matmul_peak.h"
#include "recipes/trainer/progress.h"
#include "tools/command.h"
#include "tools/commands/bench_cuda.h"

namespace lacuna::tools {
namespace {

struct Options {
  std::string recipe = "recipes/quickstart_full.yaml";
  std::string script = "tools/pytorch_twin.py";
  std::string pytorch;
  bool compile = false;
  int threads = 2;
  int steps = 5;
  std::vector<int64_t> lengths = {1024, 2048, 4096, 8192, 16384};
};

void PrintRow(const std::string& name, const StepTimes& times, double flops_per_token,
              double peak) {
  fmt::print("  {:<28} {:>9.1f} ms  {:>8} tok/s  {:>6.1f} GFLOP/s  {:>5.1f} % of matmul\n", name,
             1e3 * times.median(), FormatCount(static_cast<int64_t>(times.tokens_per_second())),
             times.tokens_per_second() * flops_per_token / 1e9,
             100 * times.tokens_per_second() * flops_per_token / peak);
}

absl::Status BenchTwins(const Options& options, const Recipe& full, double peak) {
  constexpr int kWarmup = 2;
  const int64_t tokens = full.train.sequence_length;
  const double flops = FlopsPerToken(full).total();
  // First, because a wrong interpreter shows at once.
  std::optional<PeerTimes> peer;
  if (!options.pytorch.empty()) {
    LACUNA_ASSIGN_OR_RETURN(peer,
                            TimePyTorchSteps(full, options.pytorch, options.script, tokens, kWarmup,
                                             options.steps, options.threads, options.compile));
  }
  fmt::print("\nFull-attention model, one document of {} tokens a step, median of {} steps\n",
             FormatCount(tokens), options.steps);
  const StepTimes ours = TimeTrainingSteps(full, tokens, kWarmup, options.steps);
  PrintRow("Lacuna", ours, flops, peak);
  if (!peer) {
    fmt::print("  PyTorch: not measured (--pytorch PYTHON names an interpreter that has torch)\n");
    return absl::OkStatus();
  }
  PrintRow(fmt::format("PyTorch {}{}", peer->version, options.compile ? ", compiled" : ""),
           peer->times, flops, peak);
  fmt::print("  Lacuna / PyTorch: {:.2f}x tokens/s ({} and {} parameters)\n",
             ours.tokens_per_second() / peer->times.tokens_per_second(),
             FormatCount(CountParameters(full).total()), FormatCount(peer->parameters));
  return absl::OkStatus();
}

void BenchLengths(const Options& options, const Recipe& full) {
  Recipe quickstart = full, paper = full;
  quickstart.model.attention = paper.model.attention = AttentionKind::kNsa;
  paper.nsa = NsaConfig{};  // the defaults are the paper's keys
  const auto keys = [](const NsaConfig& c) {
    return fmt::format("l {} d {} l' {} n {} w {}", c.block, c.stride, c.select_block,
                       c.num_selected, c.window);
  };
  fmt::print(
      "\nStep time by length, ms (median of {}): full attention, NSA with the recipe's keys ({}), "
      "NSA with the paper's ({})\n",
      options.steps, keys(quickstart.nsa), keys(paper.nsa));
  fmt::print("  {:>8} {:>12} {:>12} {:>9} {:>12} {:>9}\n", "tokens", "full", "NSA recipe",
             "speed-up", "NSA paper", "speed-up");
  for (const int64_t length : options.lengths) {
    const double a = TimeTrainingSteps(full, length, 1, options.steps).median();
    const double b = TimeTrainingSteps(quickstart, length, 1, options.steps).median(),
                 c = TimeTrainingSteps(paper, length, 1, options.steps).median();
    fmt::print("  {:>8} {:>12.1f} {:>12.1f} {:>8.2f}x {:>12.1f} {:>8.2f}x\n", FormatCount(length),
               1e3 * a, 1e3 * b, a / b, 1e3 * c, a / c);
  }
}

absl::Status BenchCpu(const Options& options) {
  LACUNA_ASSIGN_OR_RETURN(Recipe full, LoadRecipe(options.recipe, {}, 1));
  full.model.attention = AttentionKind::kFull;
  SetNumThreads(options.threads);
  const double peak = MeasureMatMulPeak(full.train.dtype, kCpu);
  fmt::print("{} threads, matrix products of {} at {:.1f} GFLOP/s; recipe {}\n", options.threads,
             NameOf(full.train.dtype), peak / 1e9, options.recipe);
  LACUNA_RETURN_IF_ERROR(BenchTwins(options, full, peak));
  BenchLengths(options, full);
  return absl::OkStatus();
}

}  // namespace

void AddBenchCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<Options>();
  CLI::App* bench = app.add_subcommand("bench", "Measures training speed beside its peers");
  bench->require_subcommand(1);
  CLI::App* cpu = bench->add_subcommand("cpu",
                                        "The CPU backend: the full-attention model beside PyTorch, "
                                        "then NSA beside full attention by length");
  cpu->add_option("recipe", options->recipe, "recipe of the model")->capture_default_str();
  cpu->add_option("--pytorch", options->pytorch, "Python interpreter with torch, for the peer");
  cpu->add_option("--script", options->script, "the PyTorch model")->capture_default_str();
  cpu->add_flag("--compile", options->compile, "torch.compile the peer");
  cpu->add_option("--threads", options->threads, "CPU threads")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  cpu->add_option("--steps", options->steps, "timed steps")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  cpu->add_option("--lengths", options->lengths, "tokens of a document")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  cpu->footer("Example:\n  lacuna bench cpu --pytorch python3 --lengths 1024,4096,16384");
  AddBenchCudaCommand(*bench, run);
  bench->footer("Example:\n  lacuna bench cpu --pytorch python3");
  cpu->callback([options, &run] { run = [options] { return BenchCpu(*options); }; });
}

}  // namespace lacuna::tools
