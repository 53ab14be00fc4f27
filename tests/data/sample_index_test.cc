// Packing: every token once, nothing longer than a sample, the same number of samples in every
// epoch.
#include "data/sample_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/io/hdf5_file.h"
#include "tests/data/shard_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;

constexpr Packing kPackings[] = {Packing::kConcat, Packing::kBestFit, Packing::kOneDocument};

TokenCorpus MakeCorpus(const TempDir& dir, const std::vector<std::vector<int64_t>>& shards) {
  for (size_t i = 0; i < shards.size(); ++i)
    test::WriteShard(dir / fmt::format("{}.h5", i), test::CountedDocuments(shards[i]));
  std::vector<std::string> problems;
  TokenCorpus corpus = TokenCorpus::Open(
      dir.path(), {.vocab_size = 1000, .tokenizer_hash = test::kTokenizerHash}, &problems);
  EXPECT_THAT(problems, testing::IsEmpty());
  return corpus;
}

SampleIndexOptions Options(Packing packing, int64_t length, int64_t epoch = 0) {
  return {.packing = packing,
          .sequence_length = length,
          .seed = 5,
          .stage = "pretrain",
          .source = "text",
          .epoch = epoch};
}

// Lengths 0 to 60, with whole multiples of the sequence length among them.
std::vector<int64_t> Lengths(int64_t count) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < count; ++i) lengths.push_back(i * i * 7 % 61);
  lengths.insert(lengths.end(), {16, 32, 160, 0, 1});
  return lengths;
}

TEST(SampleIndex, EveryTokenIsInExactlyOneSample) {
  const TempDir dir;
  const TokenCorpus corpus = MakeCorpus(dir, {Lengths(40), Lengths(33)});
  for (const Packing packing : kPackings) {
    const SampleIndex index = SampleIndex::Build(corpus, Options(packing, 16));
    std::map<int64_t, std::vector<int>> seen;
    for (int64_t d = 0; d < corpus.num_documents(); ++d)
      seen[d].resize(static_cast<size_t>(corpus.Find(d).length));
    for (int64_t i = 0; i < index.num_samples(); ++i) {
      int64_t rows = 0;
      for (const Fragment& fragment : index.Sample(i)) {
        ASSERT_GT(fragment.length, 0);
        rows += fragment.length;
        for (int64_t r = 0; r < fragment.length; ++r)
          ++seen[fragment.document].at(static_cast<size_t>(fragment.begin + r));
      }
      ASSERT_GT(rows, 0);
      ASSERT_LE(rows, 16);
    }
    for (const auto& [document, rows] : seen) {
      for (const int count : rows) ASSERT_EQ(count, 1) << "document " << document;
    }
  }
}

TEST(SampleIndex, NumberOfSamples) {
  const TempDir dir;
  const std::vector<int64_t> lengths = Lengths(40);
  const TokenCorpus corpus = MakeCorpus(dir, {lengths});
  int64_t tokens = 0, pieces = 0;
  for (const int64_t length : lengths) tokens += length, pieces += (length + 15) / 16;
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    EXPECT_EQ(SampleIndex::Build(corpus, Options(Packing::kConcat, 16, epoch)).num_samples(),
              (tokens + 15) / 16);
    EXPECT_EQ(SampleIndex::Build(corpus, Options(Packing::kOneDocument, 16, epoch)).num_samples(),
              pieces);
    const int64_t best =
        SampleIndex::Build(corpus, Options(Packing::kBestFit, 16, epoch)).num_samples();
    EXPECT_EQ(best, SampleIndex::Build(corpus, Options(Packing::kBestFit, 16, 0)).num_samples());
    EXPECT_GE(best, (tokens + 15) / 16);
    EXPECT_LT(best, pieces);
  }
}

TEST(SampleIndex, BestFitKeepsDocumentsWhole) {
  const TempDir dir;
  // By decreasing length 9 | 8 | 6 -> with 9's room 7 | 4 -> with 8's room 8 | 4 -> there, too | 1
  // -> with 9 + 6.
  const TokenCorpus corpus = MakeCorpus(dir, {{4, 9, 1, 6, 8, 4}});
  const SampleIndex index = SampleIndex::Build(corpus, Options(Packing::kBestFit, 16));
  ASSERT_EQ(index.num_samples(), 2);
  std::set<std::vector<int64_t>> packed;
  for (int64_t i = 0; i < 2; ++i) {
    std::vector<int64_t> lengths;
    for (const Fragment& fragment : index.Sample(i)) {
      EXPECT_EQ(fragment.begin, 0);
      lengths.push_back(fragment.length);
    }
    packed.insert(lengths);
  }
  EXPECT_EQ(packed, (std::set<std::vector<int64_t>>{{9, 6, 1}, {8, 4, 4}}));
}

std::vector<Fragment> All(const SampleIndex& index) {
  std::vector<Fragment> all;
  for (int64_t i = 0; i < index.num_samples(); ++i)
    all.insert(all.end(), index.Sample(i).begin(), index.Sample(i).end());
  return all;
}

TEST(SampleIndex, EachSeedStageSourceAndEpochHasItsOwnOrder) {
  const TempDir dir;
  const TokenCorpus corpus = MakeCorpus(dir, {Lengths(60)});
  for (const Packing packing : kPackings) {
    const SampleIndexOptions base = Options(packing, 16);
    std::vector<SampleIndexOptions> others(4, base);
    others[0].seed = 6;
    others[1].stage = "long";
    others[2].source = "code";
    others[3].epoch = 1;
    EXPECT_EQ(All(SampleIndex::Build(corpus, base)), All(SampleIndex::Build(corpus, base)));
    for (const SampleIndexOptions& other : others) {
      EXPECT_NE(All(SampleIndex::Build(corpus, base)), All(SampleIndex::Build(corpus, other)));
      EXPECT_NE(SampleIndex::Key(corpus, base), SampleIndex::Key(corpus, other));
    }
  }
}

// Over many epochs each document comes first about equally often: no place is favoured by the
// shuffle.
TEST(SampleIndex, ShuffleIsUniform) {
  const TempDir dir;
  const TokenCorpus corpus = MakeCorpus(dir, {std::vector<int64_t>(8, 16)});
  std::vector<int> first(8, 0);
  for (int64_t epoch = 0; epoch < 4000; ++epoch) {
    ++first[static_cast<size_t>(
        SampleIndex::Build(corpus, Options(Packing::kConcat, 16, epoch)).Sample(0)[0].document)];
  }
  for (const int count : first) EXPECT_NEAR(count, 500, 5 * 21);  // 5 standard deviations
}

TEST(SampleIndex, FileRoundTripAndDamage) {
  const TempDir dir;
  const TokenCorpus corpus = MakeCorpus(dir, {Lengths(40)});
  const SampleIndexOptions options = Options(Packing::kBestFit, 16);
  const uint64_t key = SampleIndex::Key(corpus, options);
  const SampleIndex index = SampleIndex::Build(corpus, options);
  const std::string path = dir / "index";
  ASSERT_TRUE(index.Write(path, key).ok());
  const auto read = SampleIndex::Read(path, key);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(All(*read), All(index));
  EXPECT_EQ(ExitCodeOf(SampleIndex::Read(path, key + 1).status()), ExitCode::kData);
  std::string bytes = *ReadFile(path, 1 << 20, ExitCode::kData);
  const int64_t fragments = Hdf5Reader::Open(path, ExitCode::kData)->Find("fragments")->offset;
  bytes[static_cast<size_t>(fragments + 5)] ^= 1;
  ASSERT_TRUE(WriteFileDurably(path, bytes, ExitCode::kData).ok());
  EXPECT_EQ(Message(SampleIndex::Read(path, key).status()),
            path + ": checksum mismatch in the sample index");
}

}  // namespace
}  // namespace lacuna
