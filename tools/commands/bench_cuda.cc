// lacuna bench cuda: the operators, layers and training steps of a card beside its ceilings.
#include "tools/commands/bench_cuda.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

#include "core/io/file.h"
#include "core/status.h"
#include "core/stream.h"
#include "recipes/benchmark/bench_report.h"
#include "recipes/benchmark/block_lists.h"
#include "recipes/benchmark/layer_benchmark.h"
#include "recipes/benchmark/op_benchmark.h"
#include "recipes/benchmark/torch_twin.h"
#include "recipes/plan/model_size.h"
#include "recipes/trainer/device.h"
#include "tools/command.h"
#include "tools/commands/regex_option.h"

namespace lacuna::tools {
namespace {

constexpr const char* kDefaultRecipe = "recipes/nsa_27b/pretrain_8k.yaml";
// Of its 30 layers, as many as fit on a card with their optimizer state: a dense one and two with
// experts.
constexpr const char* kDefaultChange = "model.num_layers=3";

struct Options {
  bool ops = false, layers = false, decode = false;
  int steps = 0;
  std::string recipe = kDefaultRecipe;
  std::vector<std::string> overrides;
  int64_t tokens = 8192;
  std::vector<int64_t> lengths;
  std::string routing = "real";
  std::string pattern = "random";
  std::string match;
  std::string json;
  std::string pytorch;
  std::string script = "tools/bench_torch.py";

  bool everything() const { return !ops && !layers && !decode && steps == 0; }
};

void Say(const std::string& text) {
  fmt::print("{}\n", text);
  std::fflush(stdout);  // rows take a while each
}

// Of the rows in whose name `match`, a regular expression, is found.
void MeasureRows(const char* section, const std::vector<BenchRow>& rows, const std::string& match,
                 DeviceTimer& timer, BenchReport* report) {
  const std::regex pattern(match);
  for (const BenchRow& row : rows) {
    if (!std::regex_search(row.op, pattern)) continue;
    RowResult result{.section = section,
                     .row = row,
                     .timing = timer.Measure(row),
                     .ceiling = report->ceilings.Of(row.bound)};
    if (row.held) result.held_bytes = row.held();
    if (row.lists) result.lists = row.lists();
    result.row.prepare = nullptr;
    result.row.held = nullptr;
    result.row.lists = nullptr;
    Say(Line(result));
    report->rows.push_back(std::move(result));
  }
}

void BenchOps(const Options& options, const BenchSizes& sizes, Device device, DeviceTimer& timer,
              BenchReport* report) {
  Say(fmt::format("\nOperators in bf16, routing {}: time, rate, share of the ceiling, work",
                  NameOf(sizes.routing)));
  if (sizes.pattern == BenchPattern::kLocal)
    Say(fmt::format("Lists of blocks: a token keeps each free block with probability {:.3f}",
                    sizes.keep));
  MeasureRows("ops", OpRows(sizes, device), options.match, timer, report);
  ReleaseCudaCache(device);
  if (!options.match.empty()) return;
  report->loss_memory = MeasureLossMemory(sizes, 4 * sizes.tokens, device);
  Say(Line(*report->loss_memory));
}

// Batches and lengths whose caches fit on the card.
void BenchDecode(const BenchSizes& sizes, Device device, DeviceTimer& timer, BenchReport* report) {
  Say("\nDecoding in bf16, a step of a layer's attention: time, rate, share of the copy");
  const ModelConfig& m = sizes.model;
  for (const int64_t batch : {1, 8, 64}) {
    for (const int64_t tokens : {8192, 16384, 32768, 65536}) {
      // With a sequence's rows in f32, of which the caches are made.
      const int64_t needed =
          (batch + 4) * tokens * m.num_groups * (m.head_dim_qk + m.head_dim_v) * 2;
      if (needed > InfoOfCudaDevice(device).memory_bytes / 10 * 8) {
        Say(fmt::format("  {} x {}: left out, needs {} MB", batch, tokens, needed / 1'000'000));
        continue;
      }
      const DecodeResult full = MeasureDecodeFull(sizes, batch, tokens, device, timer);
      Say(Line(full, nullptr, report->ceilings));
      ReleaseCudaCache(device);
      const DecodeResult nsa = MeasureDecodeNsa(sizes, batch, tokens, device, timer);
      Say(Line(nsa, &full, report->ceilings));
      ReleaseCudaCache(device);
      report->decode.push_back(full);
      report->decode.push_back(nsa);
    }
  }
}

absl::Status BenchSteps(const Options& options, const Recipe& recipe, Device device,
                        BenchReport* report) {
  constexpr int kWarmup = 2;
  Say(fmt::format("\nTraining steps, {}, one document of random tokens, median of {}",
                  NameOf(recipe.train.dtype), options.steps));
  std::string name = options.recipe;
  for (const std::string& change : options.overrides) name += " " + change;
  ResetCudaMemoryPeak(device);
  report->steps = StepsResult{
      .recipe = name,
      .times = TimeTrainingSteps(recipe, options.tokens, kWarmup, options.steps, device),
      .parameters = CountParameters(recipe).total(),
      .flops_per_token = FlopsPerToken(recipe).total(),
      .peak_bytes = CudaMemoryStats(device).peak};
  Say(Lines(*report->steps, report->ceilings));
  return absl::OkStatus();
}

// Of the kernel module, "570.86.15": the first word of its description that begins with a digit.
std::string DriverVersion() {
  std::ifstream file("/proc/driver/nvidia/version");
  for (std::string word; file >> word;) {
    if (std::isdigit(static_cast<unsigned char>(word[0]))) return word;
  }
  return "unknown";
}

// Sets the pattern of the selected blocks; a file's lists must be those of the paper's model.
absl::Status SetPattern(const std::string& pattern, BenchSizes* sizes) {
  if (pattern == NameOf(BenchPattern::kRandom)) return absl::OkStatus();
  if (pattern == NameOf(BenchPattern::kLocal)) {
    sizes->pattern = BenchPattern::kLocal;
    sizes->keep = KeepProbability(sizes->nsa, kLocalShare);
    return absl::OkStatus();
  }
  sizes->pattern = BenchPattern::kFile;
  LACUNA_ASSIGN_OR_RETURN(BlockLists lists, ReadNpyLists(pattern, sizes->nsa.select_block));
  int64_t tokens = sizes->lengths.empty() ? sizes->tokens : 0;
  for (const int64_t length : sizes->lengths) tokens = std::max(tokens, length);
  if (lists.groups != sizes->model.num_groups || lists.places != sizes->nsa.num_selected ||
      lists.tokens < tokens)
    return ConfigError(
        "--pattern {}: lists of {} tokens, {} groups, {} blocks each: must be of at least {} "
        "tokens, {} groups and {} blocks",
        pattern, lists.tokens, lists.groups, lists.places, tokens, sizes->model.num_groups,
        sizes->nsa.num_selected);
  sizes->lists = std::make_shared<BlockLists>(std::move(lists));
  return absl::OkStatus();
}

absl::Status CheckDevice() {
#ifndef LACUNA_WITH_CUDA
  return ConfigError(
      "bench cuda: this build has no CUDA backend (configure with -DLACUNA_CUDA=ON)");
#else
  if (NumCudaDevices() == 0)
    return ConfigError("bench cuda: no CUDA card is seen by this build and driver");
  return absl::OkStatus();
#endif
}

absl::Status BenchCuda(Options options) {
  LACUNA_RETURN_IF_ERROR(CheckDevice());
  if (options.everything()) {
    options.ops = options.layers = options.decode = true;
    options.steps = 5;
  }
  if (options.recipe == kDefaultRecipe && options.overrides.empty())
    options.overrides = {kDefaultChange};
  // What can be wrong is found before anything is measured.
  Recipe recipe;
  if (options.steps > 0) {
    std::vector<std::string> overrides = options.overrides;
    overrides.push_back(fmt::format("train.sequence_length={}", options.tokens));
    LACUNA_ASSIGN_OR_RETURN(recipe, LoadRecipe(options.recipe, overrides, 1));
  }
  BenchReport report;
  if (!options.pytorch.empty()) {
    LACUNA_ASSIGN_OR_RETURN(report.torch, FindTorch(options.pytorch, options.script));
  }
  const Device device = CudaDevice();
  BenchSizes sizes;
  sizes.tokens = options.tokens;
  sizes.lengths = options.lengths;
  LACUNA_RETURN_IF_ERROR(SetPattern(options.pattern, &sizes));
  for (const BenchRouting routing :
       {BenchRouting::kReal, BenchRouting::kForced, BenchRouting::kZipf}) {
    if (options.routing == NameOf(routing)) sizes.routing = routing;
  }
  report.device = Describe(device);
  report.driver = DriverVersion();
  report.date = fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr)));
  Say(fmt::format("{}, driver {}, {}", report.device, report.driver, report.date));
  {
    DeviceTimer long_timer(device, 0.5);
    report.ceilings = MeasureCeilings(sizes, device, long_timer);
  }
  Say(Line(report.ceilings));
  {
    DeviceTimer timer(device);
    if (options.ops) BenchOps(options, sizes, device, timer, &report);
    ReleaseCudaCache(device);
    if (options.layers) {
      Say("\nLayers in bf16, the router's own routing");
      MeasureRows("layers", LayerRows(sizes, device), options.match, timer, &report);
    }
  }
  ReleaseCudaCache(device);
  if (options.decode) {
    DeviceTimer timer(device);
    BenchDecode(sizes, device, timer, &report);
  }
  ReleaseCudaCache(device);
  if (options.steps > 0) LACUNA_RETURN_IF_ERROR(BenchSteps(options, recipe, device, &report));
  ReleaseCudaCache(device);
  if (!report.torch.empty() && !report.rows.empty()) {
    LACUNA_RETURN_IF_ERROR(RunTorchTwin(options.pytorch, options.script, sizes, &report));
    Say(PeerTable(report));
  }
  if (options.json.empty()) return absl::OkStatus();
  return WriteFileDurably(options.json, ToJson(report).dump(1) + "\n", ExitCode::kData);
}

}  // namespace

void AddBenchCudaCommand(CLI::App& bench, Runner& run) {
  auto options = std::make_shared<Options>();
  CLI::App* cuda = bench.add_subcommand(
      "cuda",
      "A card: operators and layers of the paper's model beside a matrix product and a copy, "
      "decoding, and training steps of a recipe; all of them unless some are named");
  cuda->add_flag("--ops", options->ops, "operators");
  cuda->add_flag("--layers", options->layers, "attention (full, NSA) and mixture of experts");
  cuda->add_flag("--decode", options->decode,
                 "a step of attention (full, NSA) over the caches of 1, 8 and 64 sequences");
  cuda->add_option("--steps", options->steps, "timed training steps of the recipe")
      ->check(CLI::Range(1, 1000));
  cuda->add_option("--recipe", options->recipe, "recipe of the steps")->capture_default_str();
  cuda->add_option("--set", options->overrides,
                   fmt::format("Override a key of the recipe: --set section.key=value (the default "
                               "recipe: {})",
                               kDefaultChange));
  cuda->add_option("--tokens", options->tokens,
                   "tokens of a document; memory-bound operators take four times as many, too")
      ->check(CLI::Range(int64_t{64}, int64_t{1} << 20))
      ->capture_default_str();
  cuda->add_option(
          "--lengths", options->lengths,
          "tokens of the documents of attention's operators: 1024,8192 (default: --tokens)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{64}, int64_t{1} << 20));
  cuda->add_option(
          "--pattern", options->pattern,
          "blocks that selected attention reads: random (chosen for random numbers), local "
          "(neighbours choose much the same), or a FILE of `lacuna eval selection --dump`")
      ->capture_default_str();
  cuda->add_option("--routing", options->routing,
                   "experts of the operators' rows: real (a router's choice), forced (all alike), "
                   "zipf (skewed)")
      ->check(CLI::IsMember({"real", "forced", "zipf"}))
      ->capture_default_str();
  cuda->add_option("--match", options->match,
                   "only operators and layers in whose name this regular expression is found: moe, "
                   "^attention")
      ->check(IsRegex());
  cuda->add_option("--json", options->json, "file for all results");
  cuda->add_option("--pytorch", options->pytorch,
                   "Python interpreter with torch, for the same rows in PyTorch");
  cuda->add_option("--script", options->script, "the rows in PyTorch")->capture_default_str();
  cuda->footer(
      "Example:\n  lacuna bench cuda --ops --routing zipf --json ops.json --pytorch python3");
  cuda->callback([options, &run] { run = [options] { return BenchCuda(*options); }; });
}

}  // namespace lacuna::tools
