// Token shards: what is written reads back; whatever else a file holds is refused with its name.
#include "data/token_shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/io/hdf5_file.h"
#include "core/io/hdf5_seal.h"
#include "data/token_corpus.h"
#include "tests/data/shard_fixture.h"
#include "tests/support/mutations.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;
using testing::HasSubstr;

std::string OpenError(const std::string& path) {
  const auto shard = TokenShard::Open(path);
  if (shard.ok()) return "opened";
  EXPECT_EQ(ExitCodeOf(shard.status()), ExitCode::kData);
  EXPECT_EQ(Message(shard.status()).find('\n'), std::string::npos);
  EXPECT_THAT(Message(shard.status()), HasSubstr(path));
  return Message(shard.status());
}

TEST(TokenShard, RoundTripAtBothWidths) {
  const TempDir dir;
  for (const int64_t vocabulary : {kLargestShortVocabulary, kLargestShortVocabulary + 1}) {
    const std::string path = dir / fmt::format("{}.h5", vocabulary);
    const auto last = static_cast<int32_t>(vocabulary - 1);
    const test::Documents documents = {{1, last, 0}, {}, {0}, {65535, 7, 0}};
    test::WriteShard(path, documents, test::ShardInfo(vocabulary));
    const auto shard = TokenShard::Open(path);
    ASSERT_TRUE(shard.ok()) << shard.status();
    EXPECT_EQ(Hdf5Reader::Open(path, ExitCode::kData)->Find("tokens")->type,
              vocabulary == kLargestShortVocabulary ? Hdf5Type::kU16 : Hdf5Type::kU32);
    EXPECT_THAT(shard->document_offsets(), testing::ElementsAre(0, 3, 3, 4, 7));
    EXPECT_THAT(shard->document_bytes(), testing::ElementsAre(3, 0, 1, 3));
    EXPECT_TRUE(shard->loss_mask().empty());
    EXPECT_EQ(shard->info().source, "test");
    EXPECT_EQ(shard->info().licence, "CC0");
    EXPECT_EQ(shard->info().tokenizer_hash, test::kTokenizerHash);
    std::vector<int32_t> tokens(7);
    shard->Read(0, 7, tokens.data());
    EXPECT_THAT(tokens, testing::ElementsAre(1, last, 0, 0, 65535, 7, 0));
    EXPECT_EQ(shard->Token(1), last);
  }
}

TEST(TokenShard, ManyBlocksAndEqualBytes) {
  const TempDir dir;
  std::vector<int64_t> lengths(3000, 1501);  // 4.5 M tokens: three blocks of 4 MiB
  const test::Documents documents = test::CountedDocuments(lengths);
  test::WriteShard(dir / "a.h5", documents);
  test::WriteShard(dir / "b.h5", documents);
  EXPECT_EQ(*ReadFile(dir / "a.h5", 1 << 28, ExitCode::kData),
            *ReadFile(dir / "b.h5", 1 << 28, ExitCode::kData));
  EXPECT_EQ(ListDirectory(dir.path(), ExitCode::kData)->size(), 2u);  // nothing temporary is left
  const auto shard = TokenShard::Open(dir / "a.h5");
  ASSERT_TRUE(shard.ok()) << shard.status();
  EXPECT_EQ(shard->num_tokens(), 3000 * 1501);
  std::vector<int32_t> tokens(1501);
  shard->Read(1501 * 2999, 1501, tokens.data());
  EXPECT_EQ(tokens, documents[2999]);
}

TEST(TokenShard, MisuseIsAnException) {
  const TempDir dir;
  auto writer = TokenShardWriter::Create(dir / "a.h5", test::ShardInfo(), test::TokenBytes());
  ASSERT_TRUE(writer.ok());
  const std::vector<int32_t> outside = {1000}, negative = {-1}, fine = {5, 0};
  EXPECT_THROW((void)writer->AddDocument(outside, 1), Error);
  EXPECT_THROW((void)writer->AddDocument(negative, 1), Error);
  EXPECT_THROW((void)writer->Finish(), Error);
  ASSERT_TRUE(writer->AddDocument(fine, 1).ok());
  const std::vector<uint8_t> mask = {1, 1};
  EXPECT_THROW((void)writer->AddDocument(fine, 1, mask), Error);
}

// Rewrites the 2 bytes of token `i`, of all checks only the hash can tell.
void SetToken(const std::string& path, int64_t i, uint16_t token) {
  const int64_t offset = Hdf5Reader::Open(path, ExitCode::kData)->Find("tokens")->offset;
  std::string bytes = *ReadFile(path, 1 << 28, ExitCode::kData);
  std::memcpy(bytes.data() + offset + 2 * i, &token, 2);
  ASSERT_TRUE(WriteFileDurably(path, bytes, ExitCode::kData).ok());
}

TEST(TokenShard, NamesTheDamagedBlock) {
  const TempDir dir;
  const std::string path = dir / "a.h5";
  test::WriteShard(path, test::CountedDocuments(std::vector<int64_t>(3000, 1501)));
  SetToken(path, (int64_t{4} << 20) / 2 + 17, 3);  // in the second block
  EXPECT_THAT(
      OpenError(path),
      HasSubstr(":/tokens: checksum mismatch in 1 of 3 blocks of 4 MiB, the first at byte "));
}

TEST(TokenShard, EveryFlippedByteIsFound) {
  const TempDir dir;
  const std::string path = dir / "a.h5";
  test::WriteShard(path, test::CountedDocuments({5, 9, 3}));
  const std::string bytes = *ReadFile(path, 1 << 20, ExitCode::kData);
  const auto good = TokenShard::Open(path);
  ASSERT_TRUE(good.ok());
  const auto reader = Hdf5Reader::Open(path, ExitCode::kData);
  for (const auto& [name, dataset] : reader->datasets()) {
    for (int64_t at = 0; at<dataset.bytes; at += dataset.bytes> 500 ? 97 : 1) {
      std::string damaged = bytes;
      damaged[static_cast<size_t>(dataset.offset + at)] ^= 0x40;
      ASSERT_TRUE(WriteFileDurably(dir / "bad.h5", damaged, ExitCode::kData).ok());
      EXPECT_NE(OpenError(dir / "bad.h5"), "opened") << name << " byte " << at;
    }
  }
}

TEST(TokenShard, EveryTruncationIsFound) {
  const TempDir dir;
  test::WriteShard(dir / "a.h5", test::CountedDocuments({50, 9, 3}));
  const std::string bytes = *ReadFile(dir / "a.h5", 1 << 20, ExitCode::kData);
  for (size_t size = 0; size < bytes.size(); size += 101) {
    ASSERT_TRUE(WriteFileDurably(dir / "cut.h5", bytes.substr(0, size), ExitCode::kData).ok());
    EXPECT_NE(OpenError(dir / "cut.h5"), "opened") << size << " of " << bytes.size();
  }
}

// All of the structure, and data here and there: refused, never a crash of the HDF5 library.
TEST(TokenShard, EveryMutationOfTheStructureIsRefused) {
  const TempDir dir;
  test::WriteShard(dir / "a.h5", {{1, 2, 0}, {3, 0}}, test::ShardInfo(50), {{0, 1, 1}, {1, 1}});
  const std::string bytes = *ReadFile(dir / "a.h5", 1 << 20, ExitCode::kData);
  std::vector<Hdf5Dataset> datasets;
  {
    const auto reader = Hdf5Reader::Open(dir / "a.h5", ExitCode::kData);
    for (const auto& [name, dataset] : reader->datasets()) datasets.push_back(dataset);
  }
  std::sort(datasets.begin(), datasets.end(),
            [](const Hdf5Dataset& a, const Hdf5Dataset& b) { return a.offset < b.offset; });
  std::vector<test::Mutation> mutations;
  size_t structure = 0;
  for (const hdf5::Extent& extent :
       hdf5::ExtentsBetween(datasets, 0, static_cast<int64_t>(bytes.size()))) {
    for (int64_t i = 0; i < extent.bytes; ++i, ++structure)
      test::AddMutations(bytes, static_cast<size_t>(extent.begin + i), &mutations);
  }
  for (const Hdf5Dataset& dataset : datasets) {
    for (int64_t i = 0; i < dataset.bytes; i += 7)
      test::AddMutations(bytes, static_cast<size_t>(dataset.offset + i), &mutations);
  }
  ASSERT_EQ(datasets.size(), 10u);
  EXPECT_GT(structure, 5000u);
  for (const std::string& complaint : test::SweepMutations(
           bytes, mutations, ExitCode::kData,
           [](const std::string& path) { return TokenShard::Open(path).status(); }))
    ADD_FAILURE() << complaint;
}

// What earlier versions wrote had no seal.
TEST(TokenShard, UnsealedFilesAreToBeMadeAgain) {
  const TempDir dir;
  ASSERT_TRUE(
      WriteFileDurably(dir / "a.h5", "\x89HDF\r\n\x1a\n" + std::string(2000, 'x'), ExitCode::kData)
          .ok());
  EXPECT_EQ(OpenError(dir / "a.h5"),
            (dir / "a.h5") +
                ": HDF5 without a seal, so its structure cannot be verified; if it is a token "
                "shard of format version 1, run `lacuna prepare` again");
}

// A file with everything a shard must have, but for what `change` does; hashes are right, so that
// the check behind them is reached.
struct Forged {
  std::vector<uint16_t> tokens = {1, 2, 0, 3, 0};
  std::vector<int64_t> offsets = {0, 3, 5};
  std::vector<int64_t> bytes = {2, 1};
  std::string format = "lacuna.tokens";
  int64_t version = kTokenShardVersion;
  Hdf5Type token_type = Hdf5Type::kU16;
  std::vector<int64_t> token_shape = {5};
  std::string licence = "CC0";
};

void Write(const std::string& path, const Forged& forged) {
  const TokenShardInfo info = test::ShardInfo();
  const std::vector<uint16_t> token_bytes = test::TokenBytes();
  ContentHash content(info);
  auto writer = Hdf5Writer::Create(path, ExitCode::kData);
  std::vector<std::pair<std::string, BlockHashes>> hashes;
  const auto add = [&](const std::string& name, Hdf5Type type, const std::vector<int64_t>& shape,
                       const void* data, int64_t elements) {
    writer->AddDataset(name, type, shape);
    hashes.emplace_back(name, HashBytes(data, elements * SizeOf(type)));
    writer->AddDataset("block_hashes/" + name, Hdf5Type::kU64,
                       {static_cast<int64_t>(hashes.back().second.blocks.size())});
    content.AddDataset(name, NameOf(type), elements, hashes.back().second.Root());
  };
  const auto documents = static_cast<int64_t>(forged.bytes.size());
  add("tokens", forged.token_type, forged.token_shape, forged.tokens.data(), 5);
  add("doc_offsets", Hdf5Type::kI64, {static_cast<int64_t>(forged.offsets.size())},
      forged.offsets.data(), static_cast<int64_t>(forged.offsets.size()));
  add("doc_bytes", Hdf5Type::kI64, {documents}, forged.bytes.data(), documents);
  add("token_bytes", Hdf5Type::kU16, {info.vocab_size}, token_bytes.data(), info.vocab_size);
  writer->SetAttribute("/", "format", forged.format);
  writer->SetAttribute("/", "format_version", forged.version);
  writer->SetAttribute("/", "vocab_size", info.vocab_size);
  writer->SetAttribute("/", "eod_id", info.eod_id);
  writer->SetAttribute("/", "tokenizer_hash", ToHex(info.tokenizer_hash));
  writer->SetAttribute("/", "source", info.source);
  writer->SetAttribute("/", "licence", forged.licence);
  writer->SetAttribute("/", "content_hash", ToHex(content.Finish()));
  ASSERT_TRUE(writer->Seal().ok());
  for (const auto& [name, hash] : hashes) {
    ASSERT_TRUE(writer
                    ->Write("block_hashes/" + name, 0, hash.blocks.data(),
                            static_cast<int64_t>(8 * hash.blocks.size()))
                    .ok());
  }
  ASSERT_TRUE(writer->Write("tokens", 0, forged.tokens.data(), 10).ok());
  ASSERT_TRUE(writer
                  ->Write("doc_offsets", 0, forged.offsets.data(),
                          static_cast<int64_t>(8 * forged.offsets.size()))
                  .ok());
  ASSERT_TRUE(writer->Write("doc_bytes", 0, forged.bytes.data(), 8 * documents).ok());
  ASSERT_TRUE(writer->Write("token_bytes", 0, token_bytes.data(), 2 * info.vocab_size).ok());
  ASSERT_TRUE(writer->Close().ok());
}

template <class F>
std::string ForgedError(F&& change) {
  const TempDir dir;
  Forged forged;
  change(forged);
  Write(dir / "f.h5", forged);
  return OpenError(dir / "f.h5").substr(dir.path().size() + 5);
}

TEST(TokenShard, RefusesOtherContentsByName) {
  {
    const TempDir dir;
    Write(dir / "f.h5", {});
    ASSERT_EQ(OpenError(dir / "f.h5"), "opened");  // so each change below is what is refused
  }
  EXPECT_THAT(ForgedError([](Forged& f) { f.tokens[3] = 1000; }),
              ":/tokens[3] = 1000, must be below vocab_size 1000");
  EXPECT_THAT(ForgedError([](Forged& f) {
                f.offsets = {0, 3, 6};
              }),
              ":/doc_offsets: runs from 0 to 6, must run from 0 to 5");
  EXPECT_THAT(ForgedError([](Forged& f) {
                f.offsets = {0, 7, 5};
              }),
              ":/doc_offsets[2] = 5 lies before the element before it, 7");
  EXPECT_THAT(ForgedError([](Forged& f) {
                f.bytes = {2, -1};
              }),
              ":/doc_bytes[1] = -1, must be at least 0");
  EXPECT_THAT(ForgedError([](Forged& f) {
                f.bytes = {2, 1, 4};
              }),
              ":/doc_bytes: has 3 elements, must be 2");
  EXPECT_THAT(ForgedError([](Forged& f) { f.version = 1; }),
              ": token shard of format version 1, this program reads version 2: run `lacuna "
              "prepare` again");
  EXPECT_THAT(ForgedError([](Forged& f) { f.version = 3; }),
              ": token shard of format version 3, this program reads version 2: written by a "
              "newer lacuna, use that one");
  EXPECT_THAT(ForgedError([](Forged& f) { f.format = "other"; }), HasSubstr(": is no token shard"));
  EXPECT_THAT(ForgedError([](Forged& f) { f.token_type = Hdf5Type::kBF16; }),
              ":/tokens: holds bf16, must be u16");
  EXPECT_THAT(ForgedError([](Forged& f) {
                f.token_shape = {1, 5};
              }),
              ":/tokens: has 2 dimensions, must be 1");
  EXPECT_THAT(ForgedError([](Forged& f) { f.licence = "none"; }),
              HasSubstr(": its attributes or hash lists do not match content_hash"));
}

TEST(TokenCorpus, ListsEveryBadShardAtOnce) {
  const TempDir dir;
  test::WriteShard(dir / "a.h5", test::CountedDocuments({5, 6}));
  TokenShardInfo other = test::ShardInfo();
  other.tokenizer_hash = 7;
  test::WriteShard(dir / "b.h5", test::CountedDocuments({5}), other);
  ASSERT_TRUE(WriteFileDurably(dir / "c.h5", "", ExitCode::kData).ok());
  test::WriteShard(dir / "d.h5", test::CountedDocuments({5}), test::ShardInfo(1001));
  std::vector<std::string> problems;
  TokenCorpus::Open(dir.path(), {.vocab_size = 1000, .tokenizer_hash = test::kTokenizerHash},
                    &problems);
  ASSERT_EQ(problems.size(), 3u);
  EXPECT_THAT(
      problems[0],
      HasSubstr("b.h5: made with tokenizer 0000000000000007, the recipe's is 0000000000001234"));
  EXPECT_THAT(problems[1], HasSubstr("c.h5: "));
  EXPECT_THAT(problems[2], HasSubstr("d.h5: has a vocabulary of 1001, the model's is 1000"));
  EXPECT_THAT(Message(ProblemsError(problems)), HasSubstr("data: 3 problems\n  "));
  EXPECT_EQ(ExitCodeOf(ProblemsError(problems)), ExitCode::kData);
}

TEST(TokenCorpus, FindsShardsAndTokens) {
  const TempDir dir;
  test::WriteShard(dir / "x_1.h5", {{}, {1, 0}, {}, {2, 3, 0}});
  test::WriteShard(dir / "x_2.h5", {{4, 5, 0}});
  test::WriteShard(dir / "y.h5", {{6, 0}});
  EXPECT_THAT(*FindShards(dir / "x_*.h5"), testing::ElementsAre(dir / "x_1.h5", dir / "x_2.h5"));
  EXPECT_EQ(FindShards(dir.path())->size(), 3u);
  EXPECT_THAT(Message(FindShards(dir / "z*.h5").status()), HasSubstr("z*.h5: matches no files"));
  std::vector<std::string> problems;
  const TokenCorpus corpus = TokenCorpus::Open(
      dir / "x_*.h5", {.vocab_size = 5000, .tokenizer_hash = test::kTokenizerHash}, &problems);
  ASSERT_TRUE(problems.empty());
  EXPECT_EQ(corpus.num_documents(), 5);
  const int64_t document_of[] = {1, 1, 3, 3, 3, 4, 4, 4};
  const int64_t row_of[] = {0, 1, 0, 1, 2, 0, 1, 2};
  for (int64_t i = 0; i < corpus.num_tokens(); ++i)
    EXPECT_EQ(corpus.FindToken(i), (Fragment{document_of[i], row_of[i], 1})) << i;
  EXPECT_EQ(corpus.Find(4).shard->Token(corpus.Find(4).begin), 4);
}

}  // namespace
}  // namespace lacuna
