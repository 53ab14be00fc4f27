// The HDF5 files of the data pipeline: token shards and sample indexes.
#include "core/error.h"
#include "core/io/file.h"
#include "data/sample_index.h"
#include "data/token_shard.h"
#include "tests/data/shard_fixture.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

namespace lacuna::test {
namespace {

constexpr int64_t kSmallVocabulary = 40, kWideVocabulary = 70000;

std::string FileBytes(const std::string& path) {
  const auto bytes = ReadFile(path, int64_t{1} << 30, ExitCode::kData);
  LACUNA_CHECK(bytes.ok(), "{}", Message(bytes.status()));
  return *bytes;
}

FuzzTarget SealedTarget(const std::string& name, const std::shared_ptr<TempDir>& dir) {
  return {
      .name = name, .checksum = FuzzTarget::Checksum::kFile, .place = *dir / "m.h5", .keep = dir};
}

}  // namespace

std::vector<FuzzTarget> ShardTargets() {
  const auto dir = std::make_shared<TempDir>();
  const std::string path = *dir / "m.h5";
  FuzzTarget shard = SealedTarget("token_shard", dir), index = SealedTarget("sample_index", dir);
  WriteShard(*dir / "a.h5", {{1, 2, 0}, {3, 0}}, ShardInfo(kSmallVocabulary), {{0, 1, 1}, {1, 1}});
  WriteShard(*dir / "b.h5", {{1, 69999, 0}, {0}}, ShardInfo(kWideVocabulary));
  shard.seeds = {FileBytes(*dir / "a.h5"), FileBytes(*dir / "b.h5")};
  shard.read = [path](const std::string& bytes) -> Reading {
    PutFile(path, bytes);
    return {TokenShard::Open(path).status()};
  };
  std::vector<std::string> problems;
  const TokenCorpus corpus = TokenCorpus::Open(
      *dir / "a.h5", {.vocab_size = kSmallVocabulary, .tokenizer_hash = kTokenizerHash}, &problems);
  LACUNA_CHECK(problems.empty(), "{}", problems[0]);
  const SampleIndexOptions options{.sequence_length = 2, .stage = "s", .source = "a"};
  const uint64_t key = SampleIndex::Key(corpus, options);
  const absl::Status written = SampleIndex::Build(corpus, options).Write(path, key);
  LACUNA_CHECK(written.ok(), "{}", Message(written));
  index.seeds = {FileBytes(path)};
  index.read = [path, key](const std::string& bytes) -> Reading {
    PutFile(path, bytes);
    return {SampleIndex::Read(path, key).status()};
  };
  return {shard, index};
}

}  // namespace lacuna::test
