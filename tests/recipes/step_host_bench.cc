// What the host does for a training step beside the model, and between a run's start and its first
// step, on made-up tokens. Not a test: prints and asserts nothing.
//   step_host_bench [million tokens] [samples a step] [sequence length] [threads]
#include <chrono>
#include <cstdlib>
#include <functional>
#include <limits>
#include <span>

#include "core/parallel.h"
#include "core/status.h"
#include "data/token_shard_writer.h"
#include "data/unigram.h"
#include "nn/metrics.h"
#include "nsa/nsa_grid.h"
#include "recipes/trainer/batch_share.h"
#include "recipes/trainer/run_log.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

constexpr int64_t kVocabulary = 32768, kShardTokens = 8'000'000;
constexpr uint64_t kTokenizerHash = 1;

double Seconds(const std::function<void()>& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The fastest of `rounds`, and their mean, in milliseconds.
void Print(const char* what, int rounds, const std::function<void(int)>& f) {
  double best = std::numeric_limits<double>::infinity(), sum = 0;
  for (int i = 0; i < rounds; ++i) {
    const double seconds = Seconds([&] { f(i); });
    best = std::min(best, seconds);
    sum += seconds;
  }
  fmt::print("{:<44} {:9.3f} ms, mean {:9.3f}\n", what, 1e3 * best, 1e3 * sum / rounds);
}

void Check(const absl::Status& status) {
  LACUNA_CHECK(status.ok(), "{}", Message(status));
}

// Documents of 1 to 12,000 tokens, the short ones more often, as source files are.
void WriteShards(const std::string& dir, int64_t tokens) {
  const Tensor ids = test::RandomIds({kShardTokens}, kVocabulary - 1, 7);
  for (int64_t shard = 0; shard * kShardTokens < tokens; ++shard) {
    TokenShardInfo info;
    info.vocab_size = kVocabulary;
    info.eod_id = static_cast<int32_t>(kVocabulary) - 1;
    info.tokenizer_hash = kTokenizerHash;
    auto writer = TokenShardWriter::Create(fmt::format("{}/train_{}.h5", dir, shard), info,
                                           std::vector<uint16_t>(kVocabulary, 4));
    Check(writer.status());
    const int64_t end = std::min(kShardTokens, tokens - shard * kShardTokens);
    for (int64_t at = 0, d = 0; at < end; ++d) {
      const int64_t u = (d * 7919 + shard) % 1000, length = 1 + u * u * 12 / 1000;
      const std::span document(ids.data<int32_t>() + at,
                               static_cast<size_t>(std::min(length, end - at)));
      Check(writer->AddDocument(document, 4 * length, {}));
      at += length;
    }
    Check(writer->Finish());
  }
}

std::unique_ptr<DataLoader> Open(const std::string& dir, int64_t length) {
  DataConfig config;
  config.sources = {{.name = "made_up", .path = dir + "/train*.h5"}};
  config.packing = Packing::kBestFit;
  config.cache = dir + "/index";
  auto loader = DataLoader::Open(config, length, 1, "", kVocabulary, kTokenizerHash, true);
  Check(loader.status());
  return *std::move(loader);
}

void Start(const std::string& dir, int64_t length) {
  Print("open and verify shards, build the index", 1, [&](int) { Open(dir, length); });
  Print("open and verify shards, read the index", 3, [&](int) { Open(dir, length); });
  const auto loader = Open(dir, length);
  Print("count tokens for the unigram baseline", 3, [&](int) {
    UnigramModel unigram(kVocabulary);
    unigram.Count(loader->corpus(size_t{0}));
  });
}

void Step(const std::string& dir, int64_t samples, int64_t length) {
  const auto loader = Open(dir, length);
  std::vector<Batch> batches;
  const auto load = [&](int step) {
    auto share = LoadShare(
        *loader,
        {.first_sample = step * samples, .global_batch = samples, .micro_batch = samples / 2});
    Check(share.status());
    batches = *std::move(share);
  };
  Print("load the step's samples", 50, load);
  // New documents each time: what is derived from them is made once and kept with them.
  Print("positions, ranges and grids of its documents", 50, [&](int) {
    for (const Batch& batch : batches)
      NsaGrid(PackedSequences(batch.sequences.host_cu_seqlens()), NsaConfig());
  });
  auto log = RunLog::Open(dir + "/run");
  Check(log.status());
  StepResult result;
  result.sources = {{.name = "made_up", .tokens = 1, .targets = 1, .loss = 1}};
  RunState state;
  state.sources["made_up"] = {};
  Metrics telemetry;
  for (int i = 0; i < 60; ++i) telemetry.Add(fmt::format("layers.{}.gate", i), 1, 1);
  Print("log a step", 200, [&](int) { log->Step(state, result, 1e-3, 1e5, 0.4, nullptr); });
  Print("log a step with telemetry", 50,
        [&](int) { log->Step(state, result, 1e-3, 1e5, 0.4, &telemetry); });
  Print("progress of the sources", 50, [&](int step) { loader->Progress(step * samples); });
}

int Main(int argc, char** argv) {
  const auto number = [&](int i, int fallback) { return argc > i ? std::atoi(argv[i]) : fallback; };
  const int64_t tokens = int64_t{1'000'000} * number(1, 52), samples = number(2, 8),
                length = number(3, 8192);
  if (argc > 4) SetNumThreads(number(4, 1));
  const test::TempDir dir;
  fmt::print("{} M tokens, {} samples of {} a step, {} threads\n", tokens / 1'000'000, samples,
             length, NumThreads());
  WriteShards(dir / "", tokens);
  Start(dir / "", length);
  Step(dir / "", samples, length);
  return 0;
}

}  // namespace
}  // namespace lacuna

int main(int argc, char** argv) {
  return lacuna::Main(argc, argv);
}
