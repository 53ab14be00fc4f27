// The stream of samples: targets, padding, masks, and that sample k depends on (seed, stage, k) and
// the shards only.
#include "data/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <thread>

#include "core/error.h"
#include "tests/data/shard_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<int32_t> Values(const Tensor& tensor) {
  return {tensor.data<int32_t>(), tensor.data<int32_t>() + tensor.numel()};
}

struct Opener {
  DataConfig config;
  int64_t sequence_length = 8;
  uint64_t seed = 1;
  std::string stage = "pretrain";
  int64_t vocab_size = test::kVocabulary;
  uint64_t tokenizer_hash = test::kTokenizerHash;
  bool may_write_cache = false;

  absl::StatusOr<std::unique_ptr<DataLoader>> TryOpen() const {
    return DataLoader::Open(config, sequence_length, seed, stage, vocab_size, tokenizer_hash,
                            may_write_cache);
  }
  std::unique_ptr<DataLoader> Open() const {
    auto loader = TryOpen();
    LACUNA_CHECK(loader.ok(), "{}", Message(loader.status()));
    return *std::move(loader);
  }
};

// One source with these documents.
Opener OneSource(const TempDir& dir, const test::Documents& documents,
                 Packing packing = Packing::kConcat,
                 const std::vector<std::vector<uint8_t>>& masks = {}) {
  test::WriteShard(dir / "train.h5", documents, test::ShardInfo(), masks);
  Opener opener;
  opener.config.sources = {{.name = "text", .path = dir / "train.h5", .weight = 1.0}};
  opener.config.packing = packing;
  return opener;
}

TEST(DataLoader, TargetsShiftInsideDocumentsOnly) {
  const TempDir dir;
  const Batch batch = *OneSource(dir, {{11, 12, 13, 0}}).Open()->Load({0});
  EXPECT_THAT(Values(batch.ids), ElementsAre(11, 12, 13, 0, 0, 0, 0, 0));
  EXPECT_THAT(Values(batch.targets), ElementsAre(12, 13, 0, -1, -1, -1, -1, -1));
  EXPECT_THAT(batch.sequences.host_cu_seqlens(), ElementsAre(0, 4, 8));
  EXPECT_EQ(batch.num_target_tokens, 3);
  EXPECT_THAT(batch.tokens_per_source, ElementsAre(4));
}

// A document's own end-of-document tokens are scored; padding with the same id is not: place tells
// them apart, not the id.
TEST(DataLoader, EndOfDocumentIsATargetAndPaddingIsNot) {
  const TempDir dir;
  const Batch batch = *OneSource(dir, {{0, 0, 5, 0, 0}}).Open()->Load({0});
  EXPECT_THAT(Values(batch.targets), ElementsAre(0, 5, 0, 0, -1, -1, -1, -1));
  EXPECT_EQ(batch.num_target_tokens, 4);
}

TEST(DataLoader, DocumentsPredictAcrossACutButNotAcrossTheirEnd) {
  const TempDir dir;
  const auto loader = OneSource(dir, test::CountedDocuments({21, 3})).Open();
  // Whatever the order, row by row: a target is the next token of its own document, found by the
  // token itself.
  std::map<int32_t, int32_t> next;
  for (int32_t t = 1; t < 20; ++t) next[t] = t + 1;
  next[20] = 0;
  next[21] = 22;
  next[22] = 0;
  int64_t targets = 0, cuts = 0;
  for (int64_t k = 0; k < 3; ++k) {
    const Batch batch = *loader->Load({k});
    const auto ids = Values(batch.ids), wanted = Values(batch.targets);
    for (size_t row = 0; row < 8; ++row) {
      EXPECT_EQ(wanted[row], ids[row] == 0 ? -1 : next.at(ids[row]))
          << "sample " << k << " row " << row;
      cuts += row == 7 && wanted[row] >= 0;
    }
    targets += batch.num_target_tokens;
  }
  EXPECT_EQ(targets, 22);  // every token but the documents' last
  EXPECT_GE(cuts, 2);
}

TEST(DataLoader, MaskedTokensAreNoTargets) {
  const TempDir dir;
  const Batch batch =
      *OneSource(dir, {{11, 12, 13, 14, 0}}, Packing::kConcat, {{0, 0, 1, 0, 1}}).Open()->Load({0});
  EXPECT_THAT(Values(batch.targets), ElementsAre(-1, 13, -1, 0, -1, -1, -1, -1));
  EXPECT_EQ(batch.num_target_tokens, 2);
  const TempDir other;
  const Batch none =
      *OneSource(other, {{11, 12, 0}}, Packing::kConcat, {{0, 0, 0}}).Open()->Load({0});
  EXPECT_EQ(none.num_target_tokens, 0);
}

TEST(DataLoader, ABatchIsItsSamplesOneAfterTheOther) {
  const TempDir dir;
  for (const Packing packing : {Packing::kConcat, Packing::kBestFit, Packing::kOneDocument}) {
    const auto loader =
        OneSource(dir, test::CountedDocuments({3, 30, 5, 7, 1, 2, 17, 8}), packing).Open();
    const Batch batch = *loader->Load({4, 1, 6});
    std::vector<int32_t> ids, targets, cu{0};
    int64_t count = 0, tokens = 0;
    for (const int64_t k : {4, 1, 6}) {
      const Batch one = *loader->Load({k});
      EXPECT_EQ(one.ids.numel(), 8);
      for (const int32_t id : Values(one.ids)) ids.push_back(id);
      for (const int32_t target : Values(one.targets)) targets.push_back(target);
      const int32_t base = cu.back();
      for (size_t i = 1; i < one.sequences.host_cu_seqlens().size(); ++i)
        cu.push_back(base + one.sequences.host_cu_seqlens()[i]);
      count += one.num_target_tokens;
      tokens += one.tokens_per_source[0];
    }
    EXPECT_EQ(Values(batch.ids), ids);
    EXPECT_EQ(Values(batch.targets), targets);
    EXPECT_EQ(batch.sequences.host_cu_seqlens(), cu);
    EXPECT_EQ(batch.num_target_tokens, count);
    EXPECT_THAT(batch.tokens_per_source, ElementsAre(tokens));
  }
}

// Samples of a source, as text to compare: every epoch has the same rows in another order.
std::vector<std::string> Stream(const DataLoader& loader, int64_t begin, int64_t end) {
  std::vector<std::string> samples;
  for (int64_t k = begin; k < end; ++k) {
    const Batch batch = *loader.Load({k});
    samples.push_back(fmt::format("{} {} {}", fmt::join(Values(batch.ids), ","),
                                  fmt::join(Values(batch.targets), ","),
                                  fmt::join(batch.sequences.host_cu_seqlens(), ",")));
  }
  return samples;
}

Opener TwoSources(const TempDir& dir) {
  test::WriteShard(dir / "a_0.h5", test::CountedDocuments({3, 30, 5, 7, 1, 2, 17, 8}));
  test::WriteShard(dir / "a_1.h5", test::CountedDocuments({13, 2, 40}, 200));
  test::WriteShard(dir / "b.h5", test::CountedDocuments({9, 9, 9, 9}, 500));
  Opener opener;
  opener.config.sources = {{.name = "a", .path = dir / "a_*.h5", .weight = 3},
                           {.name = "b", .path = dir / "b.h5", .weight = 1}};
  return opener;
}

TEST(DataLoader, SampleKIsAPureFunction) {
  const TempDir dir;
  const Opener opener = TwoSources(dir);
  const auto all = Stream(*opener.Open(), 0, 100);
  EXPECT_EQ(Stream(*opener.Open(), 0, 100), all);
  // Another process that begins in the middle, in a later epoch.
  EXPECT_EQ(Stream(*opener.Open(), 77, 100), std::vector<std::string>(all.begin() + 77, all.end()));
  // Two ranks that share the samples, read in another order.
  const auto rank0 = opener.Open(), rank1 = opener.Open();
  for (int64_t k = 98; k >= 0; k -= 2) {
    EXPECT_EQ(Stream(*rank1, k + 1, k + 2)[0], all[static_cast<size_t>(k) + 1]);
    EXPECT_EQ(Stream(*rank0, k, k + 1)[0], all[static_cast<size_t>(k)]);
  }
  Opener other = opener;
  other.seed = 2;
  EXPECT_NE(Stream(*other.Open(), 0, 100), all);
  other = opener;
  other.stage = "long";
  EXPECT_NE(Stream(*other.Open(), 0, 100), all);
}

TEST(DataLoader, OriginSaysWhereASampleIsFrom) {
  const TempDir dir;
  const auto loader = TwoSources(dir).Open();
  std::vector<int64_t> seen(2, 0);
  for (int64_t k = 0; k < 100; ++k) {
    const SampleOrigin origin = loader->Origin(k);
    const auto source = static_cast<size_t>(origin.source);
    EXPECT_EQ(origin.epoch * origin.samples_per_epoch + origin.number, seen[source]++);
    std::vector<int32_t> ids, cu{0};
    for (const Fragment& fragment : origin.fragments) {
      const TokenCorpus::Place place = loader->corpus(source).Find(fragment.document);
      EXPECT_EQ(place.begin, place.shard->document_offsets()[static_cast<size_t>(place.number)]);
      for (int64_t i = 0; i < fragment.length; ++i)
        ids.push_back(place.shard->Token(place.begin + fragment.begin + i));
      cu.push_back(static_cast<int32_t>(ids.size()));
    }
    const Batch batch = *loader->Load({k});
    EXPECT_EQ(batch.tokens_per_source[source], static_cast<int64_t>(ids.size()));
    ids.resize(8, test::kEod);
    if (cu.back() < 8) cu.push_back(8);
    EXPECT_EQ(Values(batch.ids), ids);
    EXPECT_EQ(batch.sequences.host_cu_seqlens(), cu);
  }
  EXPECT_THAT(seen, ElementsAre(75, 25));
}

TEST(DataLoader, EveryEpochHasEveryTokenOnceAndItsOwnOrder) {
  const TempDir dir;
  const test::Documents documents =
      test::CountedDocuments({3, 30, 5, 7, 1, 2, 17, 8, 12, 4, 19, 33});
  for (const Packing packing : {Packing::kConcat, Packing::kBestFit, Packing::kOneDocument}) {
    const auto loader = OneSource(dir, documents, packing).Open();
    int64_t per_epoch = 0;
    while (loader->Progress(per_epoch)[0].epochs < 1.0) ++per_epoch;
    std::map<int32_t, int> once;
    for (const auto& document : documents) {
      for (const int32_t token : document) once[token] += token != 0;
    }
    std::vector<std::vector<std::string>> epochs;
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::map<int32_t, int> seen;
      for (int64_t k = epoch * per_epoch; k < (epoch + 1) * per_epoch; ++k) {
        const Batch batch = *loader->Load({k});
        for (const int32_t id : Values(batch.ids)) seen[id] += id != 0;
      }
      EXPECT_EQ(seen, once) << epoch;
      epochs.push_back(Stream(*loader, epoch * per_epoch, (epoch + 1) * per_epoch));
    }
    EXPECT_NE(epochs[0], epochs[1]);
    EXPECT_NE(epochs[1], epochs[2]);
  }
}

TEST(DataLoader, SourcesHaveTheirShares) {
  const TempDir dir;
  const auto loader = TwoSources(dir).Open();
  EXPECT_THAT(loader->source_names(), ElementsAre("a", "b"));
  const Batch batch = *loader->Load({0, 1, 2, 3, 4, 5, 6, 7});
  int64_t tokens_b = 0;
  for (const int32_t id : Values(batch.ids)) tokens_b += id >= 500;
  EXPECT_GT(tokens_b, 0);
  EXPECT_GT(batch.tokens_per_source[0], batch.tokens_per_source[1]);
  EXPECT_EQ(loader->Progress(400)[0].samples, 300);
  EXPECT_EQ(loader->Progress(400)[1].samples, 100);
  EXPECT_EQ(loader->Progress(400)[1].epochs, 100 / 5.0);
}

TEST(DataLoader, CacheGivesTheSameStream) {
  const TempDir dir;
  Opener opener = TwoSources(dir);
  opener.config.cache = dir / "cache/index";
  const auto plain = Stream(*opener.Open(), 0, 60);
  EXPECT_FALSE(PathExists(opener.config.cache));  // this rank may not write
  opener.may_write_cache = true;
  EXPECT_EQ(Stream(*opener.Open(), 0, 60), plain);
  const auto files = *ListDirectory(opener.config.cache, ExitCode::kData);
  EXPECT_GT(files.size(), 2u);
  EXPECT_EQ(Stream(*opener.Open(), 0, 60), plain);
  // A damaged index is built anew.
  for (const std::string& file : files) {
    ASSERT_TRUE(
        WriteFileDurably(opener.config.cache + "/" + file, "garbage", ExitCode::kData).ok());
  }
  EXPECT_EQ(Stream(*opener.Open(), 0, 60), plain);
  EXPECT_GT(ReadFile(opener.config.cache + "/" + files[0], 1 << 20, ExitCode::kData)->size(), 100u);
  // A cache that cannot be written costs nothing but time.
  opener.config.cache = dir / "a_0.h5";
  EXPECT_EQ(Stream(*opener.Open(), 0, 60), plain);
}

TEST(DataLoader, ThreadsSeeTheSameSamples) {
  const TempDir dir;
  const Opener opener = TwoSources(dir);
  const auto all = Stream(*opener.Open(), 0, 200);
  const auto loader = opener.Open();
  std::vector<std::vector<std::string>> seen(4);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      seen[t] = Stream(*loader, static_cast<int64_t>(50 * t), static_cast<int64_t>(50 * t + 50));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t t = 0; t < 4; ++t)
    EXPECT_EQ(seen[t], std::vector<std::string>(all.begin() + 50 * t, all.begin() + 50 * t + 50));
}

TEST(DataLoader, FingerprintTellsContentsApart) {
  const TempDir dir, other;
  const Opener opener = TwoSources(dir);
  // wherever they lie
  EXPECT_EQ(opener.Open()->fingerprints(), TwoSources(other).Open()->fingerprints());
  Opener moved = opener;
  std::swap(moved.config.sources[0].path, moved.config.sources[1].path);
  EXPECT_NE(moved.Open()->fingerprints(), opener.Open()->fingerprints());
  test::WriteShard(other / "b.h5", test::CountedDocuments({9, 9, 9, 9}, 501));
  Opener changed = opener;
  changed.config.sources[1].path = other / "b.h5";
  EXPECT_NE(changed.Open()->fingerprints(), opener.Open()->fingerprints());
}

TEST(DataLoader, AnEditedMixGoesOnWithEverySource) {
  const TempDir dir;
  Opener opener = TwoSources(dir);
  const auto steady = opener.Open();
  std::map<std::string, std::vector<std::string>> by_source;  // each source's samples in order
  for (int64_t k = 0; k < 400; ++k) {
    const Batch batch = *steady->Load({k});
    by_source[steady->source_names()[static_cast<size_t>(batch.source_of_sample[0])]].push_back(
        testing::PrintToString(Values(batch.ids)));
  }
  // Another mix, in another order of the list, from sample 60 on.
  opener.config.sources[0].weight *= 5;
  std::swap(opener.config.sources[0], opener.config.sources[1]);
  const auto edited = opener.Open();
  EXPECT_THAT(edited->AdoptJournal(steady->journal(), 60), HasSubstr("from sample 60 on"));
  std::map<std::string, size_t> next;
  for (int64_t k = 0; k < 200; ++k) {
    const Batch batch = *edited->Load({k});
    const std::string source =
        edited->source_names()[static_cast<size_t>(batch.source_of_sample[0])];
    EXPECT_EQ(testing::PrintToString(Values(batch.ids)), by_source[source][next[source]++])
        << "sample " << k << " of " << source;
  }
  EXPECT_EQ(edited->Progress(200)[0].samples,
            static_cast<int64_t>(next[edited->source_names()[0]]));
}

TEST(DataLoader, ContentHashIsOfTheSamplesAndNotOfTheirGrouping) {
  const TempDir dir;
  const auto loader = TwoSources(dir).Open();
  const uint64_t together = loader->Load({3, 4, 5, 6})->content_hash;
  EXPECT_EQ(loader->Load({6, 3})->content_hash + loader->Load({5, 4})->content_hash, together);
  EXPECT_NE(loader->Load({3, 4, 5, 7})->content_hash, together);
}

TEST(DataLoader, WholePackingLeavesLongDocumentsOut) {
  const TempDir dir;
  const auto loader =
      OneSource(dir, test::CountedDocuments({3, 9, 8, 5, 40, 2}), Packing::kWhole).Open();
  const auto progress = loader->Progress(3);
  EXPECT_EQ(progress[0].epochs, 1.0);  // 8, 5 + 3 and 2
  std::multiset<int64_t> lengths;
  for (int64_t k = 0; k < 3; ++k) {
    const auto cu = loader->Load({k})->sequences.host_cu_seqlens();
    for (size_t i = 0; i + 1 < cu.size(); ++i) lengths.insert(cu[i + 1] - cu[i]);
  }
  EXPECT_THAT(lengths, testing::UnorderedElementsAre(8, 5, 3, 2, 6));  // 6 rows of padding
  const absl::Status none =
      OneSource(dir, test::CountedDocuments({9, 12}), Packing::kWhole).TryOpen().status();
  EXPECT_EQ(ExitCodeOf(none), ExitCode::kData);
  EXPECT_THAT(Message(none), HasSubstr("source text: 2 of 2 documents have more than "
                                       "train.sequence_length = 8 tokens (the longest 12)"));
}

TEST(DataLoader, ListsEveryProblemOfEverySource) {
  const TempDir dir;
  Opener opener = TwoSources(dir);
  ASSERT_TRUE(WriteFileDurably(dir / "a_1.h5", "no HDF5", ExitCode::kData).ok());
  opener.config.sources[1].path = dir / "nothing*.h5";
  const absl::Status status = opener.TryOpen().status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kData);
  EXPECT_THAT(Message(status), HasSubstr("data: 2 problems\n  " + dir.path() + "/a_1.h5: "));
  EXPECT_THAT(Message(status), HasSubstr("\n  " + dir.path() + "/nothing*.h5: matches no files"));
}

TEST(DataLoader, MisuseIsAnException) {
  const TempDir dir;
  const auto loader = TwoSources(dir).Open();
  EXPECT_THROW((void)loader->Load({-1}), Error);
  EXPECT_THROW((void)loader->Load({}), Error);
}

}  // namespace
}  // namespace lacuna
