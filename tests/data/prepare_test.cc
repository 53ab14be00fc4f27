// Text to shards: what is read, what is left out, what is refused; the same shards from any number
// of threads.
#include "data/prepare/prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/io/file.h"
#include "core/parallel.h"
#include "data/token_shard.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/data/compressed.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::Gzip;
using test::TempDir;
using test::Zstd;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class PrepareTest : public testing::Test {
 protected:
  PrepareTest() {
    Put("tokenizer.json", test::ByteTokenizerJson());
    options_.inputs = {dir_ / "in"};
    options_.tokenizer = dir_ / "tokenizer.json";
    options_.output = dir_ / "out";
  }

  void Put(const std::string& name, const std::string& bytes) {
    std::filesystem::create_directories(std::filesystem::path(dir_ / name).parent_path());
    ASSERT_TRUE(WriteFileDurably(dir_ / name, bytes, ExitCode::kData).ok());
  }

  PrepareReport Run() {
    auto report = Prepare(options_);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *std::move(report) : PrepareReport{};
  }
  std::string Error() {
    const auto report = Prepare(options_);
    if (report.ok()) return "no error";
    code_ = ExitCodeOf(report.status());
    EXPECT_THAT(Outputs(), IsEmpty());
    std::string message = Message(report.status());
    EXPECT_EQ(message.find('\n'), std::string::npos);
    // Paths in messages are inside the test's folder.
    for (size_t at; (at = message.find(dir_.path() + "/")) != std::string::npos;)
      message.erase(at, dir_.path().size() + 1);
    return message;
  }
  std::vector<std::string> Outputs() const {
    return PathExists(dir_ / "out") ? *ListDirectory(dir_ / "out", ExitCode::kData)
                                    : std::vector<std::string>{};
  }

  // The documents of a shard as text; each must end with the one end of document that it holds.
  std::vector<std::string> Texts(const std::string& name) const {
    const auto shard = TokenShard::Open(dir_ / ("out/" + name));
    EXPECT_TRUE(shard.ok()) << shard.status();
    const Tokenizer tokenizer = *Tokenizer::Load(options_.tokenizer);
    std::vector<std::string> texts;
    for (int64_t d = 0; d < shard->num_documents(); ++d) {
      const int64_t begin = shard->document_offsets()[static_cast<size_t>(d)],
                    end = shard->document_offsets()[static_cast<size_t>(d) + 1];
      std::vector<int32_t> ids(static_cast<size_t>(end - begin));
      shard->Read(begin, end - begin, ids.data());
      EXPECT_EQ(std::count(ids.begin(), ids.end(), test::kByteEod), 1);
      EXPECT_EQ(ids.back(), test::kByteEod);
      int64_t bytes = 0;
      for (const int32_t id : ids) bytes += shard->token_bytes()[static_cast<size_t>(id)];
      ids.pop_back();
      texts.push_back(tokenizer.Decode(ids));
      EXPECT_EQ(bytes, static_cast<int64_t>(texts.back().size()));
      EXPECT_EQ(bytes, shard->document_bytes()[static_cast<size_t>(d)]);
    }
    return texts;
  }

  TempDir dir_;
  PrepareOptions options_;
  ExitCode code_ = ExitCode::kOk;
};

TEST_F(PrepareTest, FolderInSortedOrderByExtension) {
  Put("in/b.txt", "the second");
  Put("in/a/z.rst", "first");
  Put("in/c.jsonl", "{\"text\": \"third\", \"id\": 3}\n\n{\"text\": \"f\\u00f6urth\\n\"}");
  Put("in/d.bin", "other");
  Put("in/e.txt", "");
  const PrepareReport report = Run();
  EXPECT_THAT(Outputs(), ElementsAre("train_00000.h5"));
  EXPECT_THAT(Texts("train_00000.h5"),
              ElementsAre("first", "the second", "third", "f\u00f6urth\n"));
  EXPECT_EQ(report.files, 4);
  EXPECT_EQ(report.other_files, 1);
  EXPECT_EQ(report.empty_documents, 1);
  ASSERT_EQ(report.splits.size(), 1u);
  EXPECT_EQ(report.splits[0].documents, 4);
  EXPECT_EQ(report.splits[0].bytes, 5 + 10 + 5 + 8);
  EXPECT_EQ(report.splits[0].tokens, (5 + 1) + (9 + 1) + (4 + 1) +
                                         (7 + 1));  // "th" is one token in "the", "third", "fourth"
  EXPECT_THAT(ToString(report), HasSubstr("train                  1           4              28"));
}

TEST_F(PrepareTest, CompressedInputs) {
  // Larger than every buffer on the way, so that decoders are resumed; two members or frames follow
  // each other.
  std::string lines, more;
  std::vector<std::string> expected;
  for (int i = 0; i < 60000; ++i) {
    expected.push_back(fmt::format("line {} {}", i, std::string(static_cast<size_t>(i % 97), 'x')));
    (i < 50000 ? lines : more) += fmt::format("{{\"text\":\"{}\"}}\n", expected.back());
  }
  Put("in/a.jsonl.gz", Gzip(lines) + Gzip(more));
  Put("in/b.jsonl.zst", Zstd(lines) + Zstd(more));
  Put("in/c.txt.gz", Gzip("whole"));
  expected.reserve(2 * expected.size() + 1);
  expected.insert(expected.end(), expected.begin(), expected.end());
  expected.push_back("whole");
  Run();
  EXPECT_EQ(Texts("train_00000.h5"), expected);
}

TEST_F(PrepareTest, DamagedCompressedInputs) {
  const std::string text(100000, 'y');
  for (const std::string name : {"x.txt.gz", "x.txt.zst"}) {
    options_.inputs = {dir_ / name};
    const std::string whole = name.ends_with("gz") ? Gzip(text + "z") : Zstd(text + "z");
    for (size_t size = 0; size < whole.size(); ++size) {
      Put(name, whole.substr(0, size));
      EXPECT_THAT(Error(), HasSubstr(name + ": the " + (name.ends_with("gz") ? "gzip" : "zstd") +
                                     " data end early"))
          << size;
    }
    Put(name, "no such format, surely");
    EXPECT_THAT(Error(), HasSubstr(name + ": damaged "));
    EXPECT_EQ(code_, ExitCode::kData);
  }
}

TEST_F(PrepareTest, SpecialTokensInTextAreText) {
  Put("in/a.txt", "before<|endoftext|>after");
  Run();
  EXPECT_THAT(Texts("train_00000.h5"), ElementsAre("before<|endoftext|>after"));
}

TEST_F(PrepareTest, ByteOrderMarksAndLineEnds) {
  Put("in/a.txt", "\xEF\xBB\xBFone\r\ntwo\rthree\r\n\r");
  Put("in/b.jsonl", "\xEF\xBB\xBF{\"text\":\"a\\r\\nb\"}\r\n{\"text\":\"c\"}\r\n \r\n");
  PrepareReport report = Run();
  EXPECT_THAT(Texts("train_00000.h5"), ElementsAre("one\ntwo\rthree\n\r", "a\nb", "c"));
  EXPECT_EQ(report.byte_order_marks, 2);
  EXPECT_EQ(report.crlf_documents, 2);
  options_.text.keep_crlf = true;
  options_.overwrite = true;
  report = Run();
  EXPECT_THAT(Texts("train_00000.h5"), ElementsAre("one\r\ntwo\rthree\r\n\r", "a\r\nb", "c"));
  EXPECT_EQ(report.crlf_documents, 0);
}

TEST_F(PrepareTest, InvalidUtf8) {
  Put("in/a.txt", "good");
  Put("in/b.txt", "ab\xFFzz");
  EXPECT_EQ(Error(),
            "in/b.txt: byte 2 (0xFF) is not UTF-8; --replace-invalid-utf8 puts U+FFFD there");
  Put("in/b.txt", "\xEF\xBB\xBFxy\xC3");
  EXPECT_THAT(Error(), HasSubstr("in/b.txt: byte 5 (0xC3) is not UTF-8"));
  Put("in/b.txt", std::string("\xFF\xFEh\0", 4));
  EXPECT_THAT(Error(), HasSubstr("looks like UTF-16"));
  Put("in/b.txt", "ab\xFFzz");
  Put("in/c.jsonl", "{\"text\":\"\xC3(\"}\n");
  options_.text.replace_invalid_utf8 = true;
  EXPECT_EQ(Run().repaired_documents, 2);
  EXPECT_THAT(Texts("train_00000.h5"), ElementsAre("good", "ab\uFFFDzz", "\uFFFD("));
}

TEST_F(PrepareTest, JsonLinesErrorsNameTheLine) {
  const auto error = [&](const std::string& line) {
    Put("in/a.jsonl", "{\"text\":\"fine\"}\n" + line + "\n{\"text\":\"fine\"}\n");
    return Error();
  };
  EXPECT_THAT(error("{\"text\":"), HasSubstr("in/a.jsonl:2: is no JSON: column "));
  EXPECT_EQ(error("[1]"), "in/a.jsonl:2: is a JSON array, must be an object with \"text\"");
  EXPECT_EQ(error("{\"id\":1,\"body\":\"x\"}"), "in/a.jsonl:2: has no key \"text\", only body, id");
  EXPECT_EQ(error("{\"messages\":[]}"),
            "in/a.jsonl:2: has no key \"text\", only messages; --chat reads conversations");
  EXPECT_EQ(error("{\"i\\n\":1}"), "in/a.jsonl:2: has no key \"text\", only i\\n");
  EXPECT_EQ(error("{\"" + std::string(1000, 'k') + "\":1}"),
            "in/a.jsonl:2: has no key \"text\", only " + std::string(100, 'k') + "...");
  EXPECT_EQ(error("{\"text\":null}"), "in/a.jsonl:2: \"text\" is a JSON null, must be a string");
  EXPECT_THAT(error("{\"text\":\"\\ud800\"}"), HasSubstr("in/a.jsonl:2: is no JSON"));
  options_.text.text_key = "body";
  Put("in/a.jsonl", "{\"body\":\"x\"}");
  Run();
  EXPECT_THAT(Texts("train_00000.h5"), ElementsAre("x"));
}

TEST_F(PrepareTest, LongLines) {
  const std::string text(5'000'000, 'q');
  Put("in/a.jsonl", "{\"text\":\"" + text + "\"}\n{\"text\":\"short\"}\n");
  Run();
  EXPECT_THAT(Texts("train_00000.h5"), ElementsAre(text, "short"));
}

TEST_F(PrepareTest, TheSameShardsFromAnyNumberOfThreads) {
  std::string lines;
  for (int i = 0; i < 9000; ++i) {
    lines += fmt::format("{{\"text\":\"document {} of the {}\"}}\n", i,
                         std::string(static_cast<size_t>(i % 50), 'h'));
  }
  Put("in/a.jsonl", lines);
  options_.shard_tokens = 50000;
  options_.holdouts = {*Holdout::Parse("validation=0.1")};
  const int threads = NumThreads();
  std::vector<std::string> names;
  for (const int count : {1, 3}) {
    SetNumThreads(count);
    options_.output = dir_ / fmt::format("out{}", count);
    const PrepareReport report = Run();
    EXPECT_GT(report.splits[0].shards, 3);
    names = *ListDirectory(options_.output, ExitCode::kData);
    EXPECT_EQ(static_cast<int64_t>(names.size()),
              report.splits[0].shards + report.splits[1].shards);
  }
  SetNumThreads(threads);
  EXPECT_EQ(*ListDirectory(dir_ / "out1", ExitCode::kData), names);
  for (const std::string& name : names) {
    const std::string one = dir_ / ("out1/" + name), three = dir_ / ("out3/" + name);
    EXPECT_EQ(*ReadFile(one, 1 << 24, ExitCode::kData), *ReadFile(three, 1 << 24, ExitCode::kData))
        << name;
    EXPECT_LE(TokenShard::Open(one)->num_tokens(), 50000);
  }
}

TEST_F(PrepareTest, HoldoutByHash) {
  std::string lines;
  for (int i = 0; i < 4000; ++i) lines += fmt::format("{{\"text\":\"document {}\"}}\n", i % 2000);
  Put("in/a.jsonl", lines);
  options_.holdouts = {*Holdout::Parse("validation=0.05"), *Holdout::Parse("test=0.1")};
  const PrepareReport report = Run();
  const auto train = Texts("train_00000.h5"), validation = Texts("validation_00000.h5"),
             test = Texts("test_00000.h5");
  EXPECT_EQ(train.size() + validation.size() + test.size(), 4000u);
  // pairs; 5 standard deviations of 2000 draws
  EXPECT_NEAR(static_cast<double>(validation.size()), 200, 2 * 5 * 9.8);
  EXPECT_NEAR(static_cast<double>(test.size()), 400, 2 * 5 * 13.5);
  EXPECT_EQ(report.splits[1].documents, static_cast<int64_t>(validation.size()));
  // Equal documents are never on both sides.
  for (const std::string& text : validation)
    EXPECT_EQ(std::count(train.begin(), train.end(), text), 0);
  EXPECT_EQ(std::count(validation.begin(), validation.end(), validation[0]), 2);
  // More input does not move a document.
  Put("in/a.jsonl", "{\"text\":\"new\"}\n" + lines);
  options_.overwrite = true;
  Run();
  const auto again = Texts("validation_00000.h5");
  for (const std::string& text : validation)
    EXPECT_EQ(std::count(again.begin(), again.end(), text), 2);
}

TEST_F(PrepareTest, HoldoutByPath) {
  Put("in/fs/xfs/a.txt", "held");
  Put("in/fs/xfs.txt", "kept 1");
  Put("in/fs/ext4/b.txt", "kept 2");
  options_.holdouts = {*Holdout::Parse("xfs=fs/xfs")};
  Run();
  EXPECT_THAT(Texts("xfs_00000.h5"), ElementsAre("held"));
  EXPECT_THAT(Texts("train_00000.h5"), ElementsAre("kept 2", "kept 1"));
}

TEST_F(PrepareTest, OptionsThatCannotBeMet) {
  Put("in/a.txt", "text");
  for (const char* text : {"x", "=1", "x=", "x=0", "x=1", "x=-0.5", "x=nan"}) {
    EXPECT_EQ(ExitCodeOf(Holdout::Parse(text).status()), ExitCode::kConfig) << text;
  }
  options_.holdouts = {*Holdout::Parse("v=none/such")};
  EXPECT_EQ(Error(),
            "prepare: hold-out v: no input file lies below none/such, e.g. there is a.txt");
  EXPECT_EQ(code_, ExitCode::kConfig);
  options_.holdouts = {*Holdout::Parse("v=0.6"), *Holdout::Parse("w=0.5")};
  EXPECT_THAT(Error(), HasSubstr("must be below 1"));
  options_.holdouts = {*Holdout::Parse("train=0.5")};
  EXPECT_EQ(Error(), "prepare: two splits are named train");
  options_.holdouts = {};
  options_.extensions = {"c", "h"};
  EXPECT_EQ(Error(), "in: holds no files *.{c,h}");
  options_.inputs = {dir_ / "missing"};
  EXPECT_EQ(Error(), "missing: cannot open: No such file or directory");
  EXPECT_EQ(code_, ExitCode::kData);
  Put("empty.txt", "");
  options_.inputs = {dir_ / "empty.txt"};
  EXPECT_THAT(Error(), HasSubstr("no text for training"));
}

TEST_F(PrepareTest, KeepsShardsThatAreThere) {
  Put("in/a.txt", "one");
  Put("out/train_00007.h5", "of an earlier run");
  Put("out/train_x.h5", "not ours");
  const auto report = Prepare(options_);
  EXPECT_EQ(ExitCodeOf(report.status()), ExitCode::kConfig);
  EXPECT_THAT(Message(report.status()),
              HasSubstr("train_00007.h5: exists already (with 0 others)"));
  EXPECT_THAT(Outputs(), ElementsAre("train_00007.h5", "train_x.h5"));
  options_.overwrite = true;
  Run();
  EXPECT_THAT(Outputs(), ElementsAre("train_00000.h5", "train_x.h5"));
  // A run that fails leaves the shards of the one before.
  Put("in/b.txt", "\xFF");
  EXPECT_FALSE(Prepare(options_).ok());
  EXPECT_THAT(Outputs(), ElementsAre("train_00000.h5", "train_x.h5"));
}

}  // namespace
}  // namespace lacuna
