#include "data/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <utility>

#include "data/tokenizer/bytes_hash.h"
#include "data/tokenizer/json_reader.h"
#include "data/tokenizer/split_rules_json.h"
#include "data/tokenizer/utf8.h"

namespace lacuna {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr std::string_view kTopOrder[] = {"version",        "truncation", "padding",
                                          "added_tokens",   "normalizer", "pre_tokenizer",
                                          "post_processor", "decoder",    "model"};

// Features that would change ids and that no byte-level tokenizer of the field uses.
absl::Status RefuseUnsupported(const JsonNode& model) {
  LACUNA_ASSIGN_OR_RETURN(const std::string type, model.Get("type").IsNull()
                                                      ? std::string("BPE")
                                                      : model.Get("type").String());
  if (type != "BPE") return model.Get("type").Error("\"{}\" is not supported, only BPE is", type);
  if (const JsonNode dropout = model.Get("dropout"); !dropout.IsNull() && dropout.value() != 0.0)
    return dropout.Wrong("null");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const JsonNode affix = model.Get(key); !affix.IsNull() && affix.value() != "")
      return affix.Wrong("null or \"\"");
  }
  return absl::OkStatus();
}

// Ids by the file's spelling of a token.
using SymbolIds = BytesViewMap<int32_t>;

absl::Status ReadVocabulary(const JsonNode& vocab, TokenizerDefinition* definition,
                            SymbolIds* ids) {
  if (!vocab.value().is_object() || vocab.value().empty())
    return vocab.Wrong("an object of tokens and their ids");
  // Ids may leave holes, but a slip in one must not allocate a table of millions.
  constexpr int64_t kMostHoles = 65536;
  const int64_t limit = static_cast<int64_t>(vocab.value().size()) + kMostHoles;
  std::vector<std::string>& tokens = definition->tokens;
  for (const auto& [symbols, value] : vocab.value().items()) {
    const auto id = JsonNode(&value, vocab.place() + "[\"" + symbols + "\"]").Id(limit);
    if (!id.ok()) return id.status();
    if (symbols.empty()) return vocab.Error("holds an empty token");
    if (static_cast<size_t>(*id) >= tokens.size()) tokens.resize(static_cast<size_t>(*id) + 1);
    std::string& token = tokens[static_cast<size_t>(*id)];
    if (!token.empty())
      return vocab.Error("\"{}\" has id {}, which another token has, too", symbols, *id);
    // Special tokens may be written outside of the byte alphabet; they stand for themselves.
    if (!BytesFromSymbols(symbols, &token)) token = symbols;
    ids->emplace(symbols, *id);
  }
  for (int b = 0; b < 256; ++b) {
    const auto found = ids->find(ByteSymbol(static_cast<uint8_t>(b)));
    if (found == ids->end())
      return vocab.Error(
          "has no token for byte 0x{:02x} (\"{}\"); a byte-level vocabulary has all 256", b,
          ByteSymbol(static_cast<uint8_t>(b)));
    definition->byte_ids[static_cast<size_t>(b)] = found->second;
  }
  return absl::OkStatus();
}

// The two halves of merge i, in either form.
absl::Status ReadMerge(const JsonNode& merge, std::string_view* left, std::string_view* right) {
  const json& value = merge.value();
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
    *left = value[0].get_ref<const std::string&>();
    *right = value[1].get_ref<const std::string&>();
    return absl::OkStatus();
  }
  if (value.is_string()) {
    const std::string_view text = value.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      *left = text.substr(0, space);
      *right = text.substr(space + 1);
      return absl::OkStatus();
    }
  }
  return merge.Wrong("\"a b\" or [\"a\", \"b\"]");
}

// Also rewrites the document's merges as "a b".
absl::Status ReadMerges(const JsonNode& merges, const SymbolIds& ids,
                        TokenizerDefinition* definition, json* legacy) {
  if (!merges.value().is_array()) return merges.Wrong("a list of merges");
  *legacy = json::array();
  definition->merges.reserve(merges.value().size());
  for (size_t i = 0; i < merges.value().size(); ++i) {
    std::string_view left, right;
    LACUNA_RETURN_IF_ERROR(ReadMerge(merges.At(i), &left, &right));
    const std::string result = std::string(left) + std::string(right);
    BpeMerge merge{};
    for (const auto& [symbols, id] : {std::pair(left, &merge.left),
                                      {right, &merge.right},
                                      {std::string_view(result), &merge.result}}) {
      const auto found = ids.find(symbols);
      if (found == ids.end()) return merges.At(i).Error("\"{}\" is not in the vocabulary", symbols);
      *id = found->second;
    }
    definition->merges.push_back(merge);
    legacy->push_back(std::string(left) + " " + std::string(right));
  }
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const JsonNode& list, const SymbolIds& ids,
                             TokenizerDefinition* definition) {
  if (list.IsNull()) return absl::OkStatus();
  if (!list.value().is_array()) return list.Wrong("a list of tokens");
  BytesMap<int32_t> seen;
  absl::flat_hash_map<int32_t, std::string> by_id;
  // The `tokenizers` library does not read the ids, it counts: from the vocabulary's size on.
  int32_t next = static_cast<int32_t>(ids.size());
  for (size_t i = 0; i < list.value().size(); ++i) {
    const JsonNode node = list.At(i);
    AddedToken token;
    LACUNA_ASSIGN_OR_RETURN(token.id, node.Get("id").Id());
    LACUNA_ASSIGN_OR_RETURN(token.content, node.Get("content").String());
    LACUNA_ASSIGN_OR_RETURN(token.special, node.Get("special").Bool(false));
    LACUNA_ASSIGN_OR_RETURN(token.normalized, node.Get("normalized").Bool(!token.special));
    LACUNA_ASSIGN_OR_RETURN(token.left_strip, node.Get("lstrip").Bool(false));
    LACUNA_ASSIGN_OR_RETURN(token.right_strip, node.Get("rstrip").Bool(false));
    LACUNA_ASSIGN_OR_RETURN(token.single_word, node.Get("single_word").Bool(false));
    if (token.content.empty()) return node.Get("content").Error("is empty");
    if (!seen.emplace(token.content, token.id).second)
      return node.Error("\"{}\" is listed twice", token.content);
    if (const auto other = by_id.emplace(token.id, token.content); !other.second) {
      return node.Error("\"{}\" has id {}, which \"{}\" has, too", token.content, token.id,
                        other.first->second);
    }
    const auto in_model = ids.find(token.content);
    if (in_model != ids.end() && in_model->second != token.id) {
      return node.Error("\"{}\" has id {}, in the vocabulary it has {}", token.content, token.id,
                        in_model->second);
    }
    const size_t slot = static_cast<size_t>(token.id);
    if (in_model == ids.end() && slot < definition->tokens.size() &&
        !definition->tokens[slot].empty()) {
      return node.Error("\"{}\" has id {}, which a token of the vocabulary has, too", token.content,
                        token.id);
    }
    if (in_model == ids.end() && token.id != next) {
      return node.Error(
          "\"{}\" has id {}, must have {}: added tokens are counted from the vocabulary's size on",
          token.content, token.id, next);
    }
    next = std::max(next, token.id + 1);
    definition->added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

// The vocabulary as words of a text, which is spelled in the byte alphabet. A special token never
// comes from plain text, not even where a word spells it.
BytesMap<int32_t> FindWholeWords(const SymbolIds& ids, const std::vector<AddedToken>& added) {
  BytesMap<int32_t> words;
  std::string bytes;
  for (const auto& [symbols, id] : ids) {
    if (BytesFromSymbols(symbols, &bytes)) words.emplace(bytes, id);
  }
  for (const AddedToken& token : added) {
    if (token.special && BytesFromSymbols(token.content, &bytes)) words.erase(bytes);
  }
  return words;
}

// `value` on one line.
std::string Dump(const json& value) {
  return value.dump(-1, ' ', false);
}

std::string WriteModel(const json& model, const TokenizerDefinition& definition) {
  std::vector<std::pair<int32_t, const std::string*>> vocabulary;
  for (auto entry = model["vocab"].begin(); entry != model["vocab"].end(); ++entry) {
    vocabulary.emplace_back(entry.value().get<int32_t>(), &entry.key());
  }
  std::sort(vocabulary.begin(), vocabulary.end());
  std::string text = "{\n";
  for (auto entry = model.begin(); entry != model.end(); ++entry) {
    if (entry.key() != "vocab" && entry.key() != "merges")
      text += fmt::format("    {}: {},\n", Dump(entry.key()), Dump(entry.value()));
  }
  text += "    \"vocab\": {";
  const char* separator = "\n";
  for (const auto& [id, symbols] : vocabulary) {
    text += fmt::format("{}      {}: {}", separator, Dump(*symbols), id);
    separator = ",\n";
  }
  text += "\n    },\n    \"merges\": [";
  separator = "\n";
  for (const json& merge : model["merges"]) {
    text += fmt::format("{}      {}", separator, Dump(merge));
    separator = ",\n";
  }
  return text + (definition.merges.empty() ? "]\n  }" : "\n    ]\n  }");
}

std::string WriteCanonical(const json& document, const TokenizerDefinition& definition) {
  std::vector<std::string> keys(std::begin(kTopOrder), std::end(kTopOrder));
  for (auto entry = document.begin(); entry != document.end(); ++entry) {
    if (std::find(keys.begin(), keys.end(), entry.key()) == keys.end()) keys.push_back(entry.key());
  }
  std::string text = "{";
  const char* separator = "\n";
  for (const std::string& key : keys) {
    const json value = document.value(key, json());
    text += fmt::format("{}  {}: ", separator, Dump(key));
    separator = ",\n";
    if (key == "model") {
      text += WriteModel(value, definition);
    } else if (key == "added_tokens" && !value.empty()) {
      text += "[";
      for (size_t i = 0; i < value.size(); ++i)
        text += fmt::format("{}\n    {}", i ? "," : "", Dump(value[i]));
      text += "\n  ]";
    } else {
      text += Dump(value);
    }
  }
  return text + "\n}\n";
}

}  // namespace

absl::StatusOr<TokenizerDefinition> ParseTokenizerJson(std::string_view text,
                                                       const std::string& name) {
  json document;
  bool too_deep = false;
  try {
    // What follows recurses over the document.
    document = json::parse(text, [&](int depth, json::parse_event_t, json&) {
      too_deep = too_deep || depth > kMaxDepth;
      return !too_deep;
    });
  } catch (const json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    const std::string_view what = error.what();
    return DataError("{}: {}", name, what.substr(std::min(what.size(), what.find("] ") + 2)));
  }
  if (too_deep) return DataError("{}: nested more than {} levels deep", name, kMaxDepth);
  const JsonNode root(&document, name + ":");
  if (!document.is_object()) return root.Wrong("an object");
  const JsonNode model = root.Get("model");
  if (!model.value().is_object()) return model.Wrong("an object");
  LACUNA_RETURN_IF_ERROR(RefuseUnsupported(model));
  TokenizerDefinition definition;
  SymbolIds ids;
  LACUNA_RETURN_IF_ERROR(ReadVocabulary(model.Get("vocab"), &definition, &ids));
  json legacy;
  LACUNA_RETURN_IF_ERROR(ReadMerges(model.Get("merges"), ids, &definition, &legacy));
  LACUNA_RETURN_IF_ERROR(ReadAddedTokens(root.Get("added_tokens"), ids, &definition));
  LACUNA_ASSIGN_OR_RETURN(const bool ignore_merges, model.Get("ignore_merges").Bool(false));
  if (ignore_merges) definition.whole_words = FindWholeWords(ids, definition.added_tokens);
  LACUNA_RETURN_IF_ERROR(ReadNormalizer(root.Get("normalizer"), &definition.normal_forms));
  LACUNA_RETURN_IF_ERROR(ReadPreTokenizer(root.Get("pre_tokenizer"), &definition.split_rules));
  LACUNA_RETURN_IF_ERROR(CheckPostProcessor(root.Get("post_processor")));
  LACUNA_RETURN_IF_ERROR(CheckDecoder(root.Get("decoder")));
  document["model"]["merges"] = std::move(legacy);
  definition.canonical = WriteCanonical(document, definition);
  return definition;
}

}  // namespace lacuna
