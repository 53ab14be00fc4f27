// tokenizer.json.
#include <nlohmann/json.hpp>

#include "data/tokenizer/tokenizer.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

namespace lacuna::test {
namespace {

using nlohmann::json;

// Every section in use.
std::string FullTokenizer() {
  json document = json::parse(ByteTokenizerJson());
  const json split = {{"type", "Split"},
                      {"pattern", {{"Regex", "\\p{N}{1,3}|(?=a)|\\s+(?!\\S)"}}},
                      {"behavior", "MergedWithNext"},
                      {"invert", true}};
  document["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {split, {{"type", "Digits"}, {"individual_digits", true}}, document["pre_tokenizer"]}}};
  document["normalizer"] = {{"type", "NFC"}};
  document["added_tokens"].push_back({{"id", 258},
                                      {"content", "<a>"},
                                      {"single_word", true},
                                      {"lstrip", true},
                                      {"rstrip", true},
                                      {"normalized", true},
                                      {"special", false}});
  document["model"]["ignore_merges"] = true;
  document["model"]["merges"] = json::array({json::array({"t", "h"})});
  return document.dump(1);
}

Reading ReadTokenizer(const std::string& bytes, const std::string& path) {
  const auto tokenizer = Tokenizer::FromJson(bytes, "t.json");
  if (!tokenizer.ok()) return {tokenizer.status()};
  Reading reading;
  const std::string text = "the 123 caf\u00e9 <a> a  b\r\n<|endoftext|>\U0001F600" +
                           std::string(200, 't') + std::string(200, ' ');
  for (const SpecialTokens specials : {SpecialTokens::kAsText, SpecialTokens::kParse}) {
    std::vector<int32_t> ids;
    // A pattern may exceed its limits on a text; that is an error, not a defect.
    if (!tokenizer->Encode(text, &ids, specials).ok()) continue;
    for (const int32_t id : ids) {
      if (id < 0 || id >= tokenizer->vocab_size()) reading.broken = "gives an id outside";
    }
    reading.contents += tokenizer->Decode(ids);
  }
  if (tokenizer->eod_id() < 0 || tokenizer->eod_id() >= tokenizer->vocab_size())
    reading.broken = "its end of document is outside";
  if (!tokenizer->Save(path).ok()) reading.broken = "cannot be saved";
  const auto again = Tokenizer::Load(path);
  if (!again.ok() || again->hash() != tokenizer->hash())
    reading.broken = "reads back as something else";
  return reading;
}

}  // namespace

FuzzTarget TokenizerTarget() {
  FuzzTarget target;
  target.name = "tokenizer_json";
  target.uncovered = "no checksum: another library's format; shards and checkpoints keep its hash";
  target.place = "t.json";
  target.seeds = {ByteTokenizerJson(), FullTokenizer()};
  target.words = {"null",     "true",    "false",     "{}",         "[]",     "\"\"",
                  "0",        "-1",      "1e99",      "16777215",   "\"th\"", "\"Ġ\"",
                  "\"type\"", "\"id\"",  "\"Regex\"", "\"String\"", "(",      ")",
                  "*",        "+",       "{99999}",   "(?<=a*)",    "[^",     "\\\\p{",
                  "\\u0000",  "\\ud800", ",",         ":"};
  const auto dir = std::make_shared<TempDir>();
  target.keep = dir;
  const std::string path = *dir / "t.json";
  target.read = [path](const std::string& bytes) { return ReadTokenizer(bytes, path); };
  return target;
}

}  // namespace lacuna::test
