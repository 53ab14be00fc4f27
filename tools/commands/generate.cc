// lacuna generate: continues text with a trained model.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/status.h"
#include "nn/generation.h"
#include "recipes/trainer/load_model.h"
#include "tools/command.h"

namespace lacuna::tools {
namespace {

struct Options {
  std::string run_dir;
  std::vector<std::string> prompts;
  int64_t step = 0;
  int threads = 0;
  bool special = false;
  GenerationOptions generation;
};

absl::Status Run(const Options& options) {
  if (options.threads > 0) SetNumThreads(options.threads);
  LACUNA_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(options.run_dir, options.step));
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, LoadTokenizer(loaded));
  const std::vector<std::string> texts =
      options.prompts.empty() ? std::vector<std::string>{""} : options.prompts;
  std::vector<std::vector<int32_t>> prompts;
  for (const std::string& prompt : texts) {
    // A document starts behind the end of another one.
    std::vector<int32_t> ids;
    LACUNA_RETURN_IF_ERROR(tokenizer.Encode(prompt, &ids));
    if (ids.empty()) ids.push_back(tokenizer.eod_id());
    prompts.push_back(std::move(ids));
  }
  GenerationOptions generation = options.generation;
  generation.stop_ids = {tokenizer.eod_id()};
  generation.vocabulary_limit = tokenizer.vocab_size();
  const auto generated = Generate(*loaded.model.model, prompts, generation);
  for (size_t i = 0; i < generated.size(); ++i) {
    std::vector<int32_t> ids = generated[i];
    const bool ended = !ids.empty() && ids.back() == tokenizer.eod_id();
    if (ended) ids.pop_back();
    if (generated.size() > 1) fmt::print("---- {} of {}\n", i + 1, generated.size());
    fmt::print("{}{}\n", texts[i], tokenizer.Decode(ids));
    std::fflush(stdout);
    fmt::print(stderr, "({} tokens, {})\n", generated[i].size(),
               ended ? "the document ended" : "at the limit");
  }
  return absl::OkStatus();
}

}  // namespace

void AddGenerateCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<Options>();
  options->generation.sampling = {.temperature = 0.8, .top_p = 0.95, .seed = 1};
  CLI::App* generate = app.add_subcommand("generate", "Continues text with the model of a run");
  generate->add_option("run_dir", options->run_dir, "folder of the run (run.dir of its recipe)")
      ->required();
  generate->add_option("-p,--prompt", options->prompts,
                       "text to continue; several make a batch; none: a new document");
  generate->add_option("-n,--max-tokens", options->generation.max_tokens, "new tokens of each")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  generate
      ->add_option("--temperature", options->generation.sampling.temperature,
                   "0: the most likely token")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  generate
      ->add_option("--top-p", options->generation.sampling.top_p,
                   "keep the likeliest tokens of this much probability")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  generate
      ->add_option("--seed", options->generation.sampling.seed, "the same seed gives the same text")
      ->capture_default_str();
  generate->add_option("--step", options->step,
                       "checkpoint of this step (default: the latest good one)");
  generate->add_option("--threads", options->threads, "CPU threads (default: all)");
  generate->footer(
      "Example:\n  lacuna generate runs/quickstart_nsa --prompt 'The list type' --max-tokens 100 "
      "--temperature 0.7");
  generate->callback([options, &run] { run = [options] { return Run(*options); }; });
}

}  // namespace lacuna::tools
