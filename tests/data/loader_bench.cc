// Speed of what stands between the disk and a training step: verifying a shard, indexing an epoch,
// loading samples.
//   loader_bench [documents=200000] [sequence_length=4096]
// Reading and hashing is bounded by memory (some GB/s once the file is in the page cache); a step
// must not wait for Load.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "core/random.h"
#include "data/loader.h"
#include "tests/data/shard_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Run(int64_t documents, int64_t sequence_length) {
  const test::TempDir dir;
  const std::string path = dir / "train.h5";
  double start = Seconds();
  auto writer = TokenShardWriter::Create(path, test::ShardInfo(), test::TokenBytes());
  LACUNA_CHECK(writer.ok(), "{}", Message(writer.status()));
  // Lengths of about 200 to 8000, most of them short, like those of web pages.
  std::vector<int32_t> tokens;
  for (int64_t d = 0; d < documents; ++d) {
    const double u = PhiloxUniform(1, 0, static_cast<uint64_t>(d));
    tokens.assign(static_cast<size_t>(8.0 / (u + 0.001)) + 200,
                  static_cast<int32_t>(d % test::kVocabulary));
    const absl::Status status = writer->AddDocument(tokens, static_cast<int64_t>(tokens.size()));
    LACUNA_CHECK(status.ok(), "{}", Message(status));
  }
  const auto count = static_cast<double>(writer->num_tokens());
  const absl::Status status = writer->Finish();
  LACUNA_CHECK(status.ok(), "{}", Message(status));
  fmt::print("write        {:8.1f} M tokens/s ({} documents, {:.0f} M tokens)\n",
             count / 1e6 / (Seconds() - start), documents, count / 1e6);

  start = Seconds();
  const auto shard = TokenShard::Open(path);
  LACUNA_CHECK(shard.ok(), "{}", Message(shard.status()));
  fmt::print("open, verify {:8.2f} GB/s\n", 2 * count / 1e9 / (Seconds() - start));

  DataConfig config;
  config.sources = {{.name = "text", .path = path, .weight = 1.0}};
  for (const auto& [name, packing] :
       {std::pair{"concat", Packing::kConcat}, {"best_fit", Packing::kBestFit}}) {
    config.packing = packing;
    std::vector<std::string> problems;
    const TokenCorpus corpus =
        TokenCorpus::Open(path, {test::kVocabulary, test::kTokenizerHash}, &problems);
    SampleIndexOptions options;
    options.packing = packing;
    options.sequence_length = sequence_length;
    start = Seconds();
    const SampleIndex index = SampleIndex::Build(corpus, options);
    const double build = Seconds() - start;
    const double samples = static_cast<double>(index.num_samples());
    fmt::print("{:8} index{:8.2f} M documents/s, padding {:.3f} %\n", name,
               static_cast<double>(documents) / 1e6 / build,
               100 * (1 - count / (samples * static_cast<double>(sequence_length))));
    auto loader = DataLoader::Open(config, sequence_length, 1, "pretrain", test::kVocabulary,
                                   test::kTokenizerHash, false);
    LACUNA_CHECK(loader.ok(), "{}", Message(loader.status()));
    start = Seconds();
    const int64_t loads = std::min<int64_t>(4000, index.num_samples());
    int64_t targets = 0;
    for (int64_t k = 0; k < loads; ++k) targets += (*loader)->Load({k})->num_target_tokens;
    fmt::print("{:8} load {:8.1f} M tokens/s, one thread ({} targets)\n", name,
               static_cast<double>(loads * sequence_length) / 1e6 / (Seconds() - start), targets);
  }
}

}  // namespace
}  // namespace lacuna

int main(int argc, char** argv) {
  const auto argument = [&](int i, int64_t otherwise) {
    return argc > i ? std::atoll(argv[i]) : otherwise;
  };
  lacuna::Run(argument(1, 200000), argument(2, 4096));
}
