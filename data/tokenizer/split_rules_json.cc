#include "data/tokenizer/split_rules_json.h"

#include <algorithm>
#include <initializer_list>
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

constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
    {"Isolated", SplitBehavior::kIsolated},
    {"Removed", SplitBehavior::kRemoved},
    {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
    {"MergedWithNext", SplitBehavior::kMergedWithNext},
    {"Contiguous", SplitBehavior::kContiguous}};

absl::StatusOr<SplitRule> ReadSplit(const JsonNode& node) {
  SplitRule rule;
  LACUNA_ASSIGN_OR_RETURN(const std::string behavior, node.Get("behavior").String());
  const auto known = std::find_if(std::begin(kBehaviors), std::end(kBehaviors),
                                  [&](const auto& entry) { return entry.first == behavior; });
  if (known == std::end(kBehaviors)) {
    return node.Get("behavior")
        .Error(
            "\"{}\" is not supported; allowed are Isolated, Removed, MergedWithPrevious, "
            "MergedWithNext, Contiguous",
            behavior);
  }
  rule.behavior = known->second;
  LACUNA_ASSIGN_OR_RETURN(rule.invert, node.Get("invert").Bool(false));
  const JsonNode pattern = node.Get("pattern");
  const bool literal = !pattern.Get("String").IsNull();
  const JsonNode text = pattern.Get(literal ? "String" : "Regex");
  LACUNA_ASSIGN_OR_RETURN(const std::string source, text.String());
  LACUNA_ASSIGN_OR_RETURN(
      rule.pattern,
      CompileAt(text, source, literal ? Pattern::Syntax::kLiteral : Pattern::Syntax::kRegex));
  return rule;
}

// Refuses a step whose type is none of `allowed`, by name.
absl::Status CheckTypes(const std::vector<std::pair<std::string, JsonNode>>& steps,
                        std::initializer_list<std::string_view> allowed) {
  for (const auto& [type, step] : steps) {
    if (std::find(allowed.begin(), allowed.end(), type) != allowed.end()) continue;
    return step.Get("type").Error("\"{}\" is not supported; allowed are {}, Sequence", type,
                                  fmt::join(allowed, ", "));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadNormalizer(const JsonNode& node, std::vector<NormalForm>* forms) {
  std::vector<std::pair<std::string, JsonNode>> steps;
  LACUNA_RETURN_IF_ERROR(Flatten(node, "normalizers", &steps));
  LACUNA_RETURN_IF_ERROR(CheckTypes(steps, {"NFC", "NFD", "NFKC", "NFKD"}));
  for (const auto& [type, step] : steps) {
    forms->push_back(type == "NFC"    ? NormalForm::kNfc
                     : type == "NFD"  ? NormalForm::kNfd
                     : type == "NFKC" ? NormalForm::kNfkc
                                      : NormalForm::kNfkd);
  }
  return absl::OkStatus();
}

absl::Status ReadPreTokenizer(const JsonNode& node, std::vector<SplitRule>* rules) {
  std::vector<std::pair<std::string, JsonNode>> steps;
  LACUNA_RETURN_IF_ERROR(Flatten(node, "pretokenizers", &steps));
  LACUNA_RETURN_IF_ERROR(CheckTypes(steps, {"ByteLevel", "Split", "Digits"}));
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
    } else {
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
    }
    rules->push_back(std::move(rule));
  }
  return absl::OkStatus();
}

absl::Status CheckDecoder(const JsonNode& node) {
  std::vector<std::pair<std::string, JsonNode>> steps;
  LACUNA_RETURN_IF_ERROR(Flatten(node, "decoders", &steps));
  LACUNA_RETURN_IF_ERROR(CheckTypes(steps, {"ByteLevel"}));
  // Without one the `tokenizers` library would join the byte alphabet's characters.
  if (steps.size() != 1) return node.Error("has {} steps, expected one ByteLevel", steps.size());
  return absl::OkStatus();
}

absl::Status CheckPostProcessor(const JsonNode& node) {
  std::vector<std::pair<std::string, JsonNode>> steps;
  LACUNA_RETURN_IF_ERROR(Flatten(node, "processors", &steps));
  return CheckTypes(steps,
                    {"ByteLevel", "TemplateProcessing", "RobertaProcessing", "BertProcessing"});
}

}  // namespace lacuna
