#include "data/tokenizer/split_rules_json.h"

#include <string>
#include <utility>

namespace lacuna {
namespace {

// The members of a Sequence, which may nest; a single step as it is; none for null.
absl::Status Flatten(const JsonNode& node, const std::string& list_key,
                     std::vector<std::pair<std::string, JsonNode>>* steps) {
  if (node.IsNull()) return absl::OkStatus();
  LACUNA_ASSIGN_OR_RETURN(std::string type, node.Get("type").String());
  if (type != "Sequence") {
    steps->emplace_back(std::move(type), node);
    return absl::OkStatus();
  }
  const JsonNode list = node.Get(list_key);
  if (!list.value().is_array()) return list.Wrong("a list");
  for (size_t i = 0; i < list.value().size(); ++i)
    LACUNA_RETURN_IF_ERROR(Flatten(list.At(i), list_key, steps));
  return absl::OkStatus();
}

absl::StatusOr<Pattern> CompileAt(const JsonNode& node, const std::string& pattern,
                                  Pattern::Syntax syntax) {
  auto compiled = Pattern::Compile(pattern, syntax);
  if (!compiled.ok()) return node.Error("{}", Message(compiled.status()));
  return compiled;
}

absl::StatusOr<SplitRule> ReadSplit(const JsonNode& node) {
  SplitRule rule;
  LACUNA_ASSIGN_OR_RETURN(const std::string behavior, node.Get("behavior").String());
  LACUNA_ASSIGN_OR_RETURN(const bool invert, node.Get("invert").Bool(false));
  rule.drop_gaps = behavior == "Removed" && invert;
  if (behavior != "Isolated" && !rule.drop_gaps) {
    return node.Get("behavior")
        .Error("\"{}\"{} is not supported; allowed are \"Isolated\", and \"Removed\" with invert",
               behavior, invert ? " with invert" : "");
  }
  const JsonNode pattern = node.Get("pattern");
  const bool literal = !pattern.Get("String").IsNull();
  const JsonNode text = pattern.Get(literal ? "String" : "Regex");
  LACUNA_ASSIGN_OR_RETURN(const std::string source, text.String());
  LACUNA_ASSIGN_OR_RETURN(
      rule.pattern,
      CompileAt(text, source, literal ? Pattern::Syntax::kLiteral : Pattern::Syntax::kRegex));
  return rule;
}

}  // namespace

absl::Status ReadNormalizer(const JsonNode& node, std::vector<NormalForm>* forms) {
  std::vector<std::pair<std::string, JsonNode>> steps;
  LACUNA_RETURN_IF_ERROR(Flatten(node, "normalizers", &steps));
  for (const auto& [type, step] : steps) {
    if (type == "NFC") {
      forms->push_back(NormalForm::kNfc);
    } else if (type == "NFD") {
      forms->push_back(NormalForm::kNfd);
    } else if (type == "NFKC") {
      forms->push_back(NormalForm::kNfkc);
    } else if (type == "NFKD") {
      forms->push_back(NormalForm::kNfkd);
    } else {
      return step.Get("type").Error(
          "\"{}\" is not supported; allowed are NFC, NFD, NFKC, NFKD, Sequence", type);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadPreTokenizer(const JsonNode& node, std::vector<SplitRule>* rules) {
  std::vector<std::pair<std::string, JsonNode>> steps;
  LACUNA_RETURN_IF_ERROR(Flatten(node, "pretokenizers", &steps));
  if (steps.empty() || steps.back().first != "ByteLevel")
    return node.Error("has no ByteLevel as its last step");
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto& [type, step] = steps[i];
    SplitRule rule;
    if (type == "Split") {
      LACUNA_ASSIGN_OR_RETURN(rule, ReadSplit(step));
    } else if (type == "Digits") {
      LACUNA_ASSIGN_OR_RETURN(const bool individual, step.Get("individual_digits").Bool(false));
      LACUNA_ASSIGN_OR_RETURN(rule.pattern, CompileAt(step, individual ? "\\p{N}" : "\\p{N}+",
                                                      Pattern::Syntax::kRegex));
    } else if (type == "ByteLevel") {
      // What followed would see the byte alphabet instead of the text.
      if (i + 1 < steps.size()) return step.Error("ByteLevel must be the last step");
      LACUNA_ASSIGN_OR_RETURN(rule.prefix_space, step.Get("add_prefix_space").Bool(true));
      LACUNA_ASSIGN_OR_RETURN(const bool use_regex, step.Get("use_regex").Bool(true));
      if (use_regex) {
        LACUNA_ASSIGN_OR_RETURN(rule.pattern,
                                CompileAt(step, kGpt2Pattern, Pattern::Syntax::kRegex));
      } else if (!rule.prefix_space) {
        continue;
      }
    } else {
      return step.Get("type").Error(
          "\"{}\" is not supported; allowed are ByteLevel, Split, Digits, Sequence", type);
    }
    rules->push_back(std::move(rule));
  }
  return absl::OkStatus();
}

absl::Status CheckDecoder(const JsonNode& node) {
  std::vector<std::pair<std::string, JsonNode>> steps;
  LACUNA_RETURN_IF_ERROR(Flatten(node, "decoders", &steps));
  for (const auto& [type, step] : steps) {
    if (type != "ByteLevel")
      return step.Get("type").Error("\"{}\" is not supported; allowed are ByteLevel, Sequence",
                                    type);
  }
  // Without one the `tokenizers` library would join the byte alphabet's characters.
  if (steps.size() != 1) return node.Error("has {} steps, expected one ByteLevel", steps.size());
  return absl::OkStatus();
}

}  // namespace lacuna
