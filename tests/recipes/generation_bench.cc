// Speed of batched generation with a recipe's model and random weights. Not a test: prints and
// asserts nothing.
//   generation_bench recipes/quickstart.yaml [batch] [prompt tokens] [new tokens] [key=value ...]
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>

#include "core/error.h"
#include "core/parallel.h"
#include "core/status.h"
#include "nn/generation.h"
#include "recipes/model_builder.h"
#include "recipes/schema/recipe.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

double CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec);
}

void Run(const char* name, LanguageModel& model, const std::vector<std::vector<int32_t>>& prompts,
         const GenerationOptions& options) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  // The first token of every sequence comes when the prompts are done.
  const Clock::time_point start = Clock::now();
  Clock::time_point first;
  double prompt_seconds = 0, cpu = 0;
  int64_t tokens = 0;
  const auto generated = Generate(model, prompts, options, [&](int64_t, int32_t) {
    if (++tokens != static_cast<int64_t>(prompts.size())) return;
    prompt_seconds = since(start);
    first = Clock::now();
    cpu = CpuSeconds();
  });
  const double decoded = static_cast<double>(tokens) - static_cast<double>(prompts.size());
  uint64_t hash = 1469598103934665603u;
  for (const auto& sequence : generated) {
    for (const int32_t token : sequence)
      hash = (hash ^ static_cast<uint64_t>(token)) * 1099511628211u;
  }
  fmt::print(
      "{:<20} prompts {:6.2f} s, then {:>6.0f} tokens a second, {:>6.0f} a CPU second; {:016x}\n",
      name, prompt_seconds, decoded / since(first), decoded / (CpuSeconds() - cpu), hash);
}

int Main(int argc, char** argv) {
  LACUNA_CHECK(argc > 1, "usage: generation_bench RECIPE [batch] [prompt] [new] [key=value ...]");
  const auto number = [&](int i, int fallback) { return argc > i ? std::atoi(argv[i]) : fallback; };
  const int batch = number(2, 32), prompt = number(3, 60), tokens = number(4, 300);
  std::vector<std::string> overrides;
  for (int i = 5; i < argc; ++i) overrides.emplace_back(argv[i]);
  const auto recipe = LoadRecipe(argv[1], overrides, 1);
  LACUNA_CHECK(recipe.ok(), "{}", Message(recipe.status()));
  const BuiltModel built =
      BuildModel(recipe->model, recipe->nsa, recipe->moe, {}, recipe->train.dtype, 1);
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < batch; ++i) {
    const Tensor ids = test::RandomIds({prompt}, static_cast<int32_t>(recipe->model.vocab_size),
                                       static_cast<uint64_t>(i));
    prompts.emplace_back(ids.data<int32_t>(), ids.data<int32_t>() + prompt);
  }
  fmt::print("{}: batch of {}, prompts of {} tokens, {} new, {} threads\n", recipe->run.name, batch,
             prompt, tokens, NumThreads());
  GenerationOptions options{.max_tokens = tokens, .stop_ids = {}, .sampling = {.temperature = 0}};
  Run("greedy", *built.model, prompts, options);
  options.sampling = {.temperature = 1, .top_p = 1, .seed = 1};
  Run("sampled, top_p 1", *built.model, prompts, options);
  options.sampling.top_p = 0.95;
  Run("sampled, top_p 0.95", *built.model, prompts, options);
  return 0;
}

}  // namespace
}  // namespace lacuna

int main(int argc, char** argv) {
  return lacuna::Main(argc, argv);
}
