// JSON lines, plain and compressed.
#include <random>

#include "core/error.h"
#include "data/prepare/document_text.h"
#include "data/tokenizer/utf8.h"
#include "tests/data/compressed.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

namespace lacuna::test {
namespace {

Reading ReadDocuments(const std::string& path) {
  const std::vector<InputFile> files = {{path, "t"}};
  DocumentReader reader(files);
  Reading reading;
  for (RawDocument raw;;) {
    const auto more = reader.Next(&raw);
    if (!more.ok()) return {more.status()};
    if (!*more) return reading;
    const auto text = ExtractText(std::move(raw), {});
    if (!text.ok()) return {text.status()};
    if (FirstInvalidUtf8(text->text) >= 0) reading.broken = "gives text that is not UTF-8";
    reading.contents += fmt::format("{} {}\n", text->text.size(), text->text);
    raw = {};
  }
}

FuzzTarget Target(const std::string& name, const std::string& extension) {
  FuzzTarget target;
  target.name = name;
  const auto dir = std::make_shared<TempDir>();
  target.keep = dir;
  const std::string path = *dir / ("t.jsonl" + extension);
  target.place = path;
  target.words = {"{\"text\":", "\"",      "}",  "\n",           "\r\n",     "null", "\\u0000",
                  "\\ud83d",    "\\udc00", "\\", "\xEF\xBB\xBF", "\xC3\x28", "[[[[", "1e400"};
  target.read = [path](const std::string& bytes) {
    PutFile(path, bytes);
    return ReadDocuments(path);
  };
  return target;
}

}  // namespace

std::vector<FuzzTarget> TextTargets() {
  std::string lines = "\xEF\xBB\xBF{\"text\": \"one\\u00e9\\ud83d\\ude00\", \"id\": 1}\r\n\n";
  // Too random for all of it to be packed into less than one edit puts in or over: that would be
  // another good file.
  std::mt19937_64 random(1);
  for (int i = 0; i < 60; ++i)
    lines +=
        fmt::format("{{\"meta\":[{{\"a\":null}},-1.5e3],\"text\":\"{:x}\\n\\t\"}}\n", random());
  FuzzTarget plain = Target("json_lines", ""), gzip = Target("json_lines_gz", ".gz"),
             zstd = Target("json_lines_zst", ".zst");
  plain.uncovered = "no checksum: a text format";
  plain.seeds = {lines, "{\"text\":\"\"}"};
  gzip.checksum = zstd.checksum = FuzzTarget::Checksum::kContents;
  gzip.uncovered = "gzip's checksum covers the text, not the header's name and time";
  zstd.uncovered = "zstd's checksum covers the text, not how it is packed";
  gzip.seeds = {Gzip(lines)};
  zstd.seeds = {Zstd(lines)};
  LACUNA_CHECK(gzip.seeds[0].size() > 600 && zstd.seeds[0].size() > 600, "packed too small");
  return {plain, gzip, zstd};
}

}  // namespace lacuna::test
