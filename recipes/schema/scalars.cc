#include "recipes/schema/scalars.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

namespace lacuna {
namespace {

bool IsPlainScalar(const YamlNode& node) {
  return node.kind == YamlNode::Kind::kScalar && !node.quoted;
}
bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}
bool IsLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// "010" is 8 to YAML 1.1 and 10 to everybody else.
bool HasLeadingZero(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0' && IsDigit(text[1]);
}

// from_chars on the whole of `text`.
template <class T>
std::errc ParseWhole(std::string_view text, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end != text.data() + text.size() ? std::errc::invalid_argument
                                                                  : error;
}

}  // namespace

std::string ReadScalar(const YamlNode& node, int64_t* value) {
  int64_t parsed = 0;
  if (!IsPlainScalar(node)) return "an integer";
  const std::errc error = ParseWhole(std::string_view(node.text), &parsed);
  if (error == std::errc::result_out_of_range) return "an integer of at most 64 bits";
  if (error != std::errc() || HasLeadingZero(node.text)) {
    double real = 0;
    const bool is_number = ParseWhole(std::string_view(node.text), &real) == std::errc();
    return is_number && std::isfinite(real) ? "an integer (decimal digits only)" : "an integer";
  }
  *value = parsed;
  return "";
}

std::string ReadScalar(const YamlNode& node, double* value) {
  double parsed = 0;
  if (!IsPlainScalar(node)) return "a number";
  const std::errc error = ParseWhole(std::string_view(node.text), &parsed);
  if (error == std::errc::result_out_of_range) return "a number within the range of f64";
  if (error != std::errc()) return "a finite number";
  if (!std::isfinite(parsed)) return "a finite number";
  if (HasLeadingZero(node.text)) return "a number without leading zeros";
  *value = parsed;
  return "";
}

std::string ReadScalar(const YamlNode& node, bool* value) {
  if (!IsPlainScalar(node) || (node.text != "true" && node.text != "false")) return "true or false";
  *value = node.text == "true";
  return "";
}

std::string ReadScalar(const YamlNode& node, std::string* value) {
  if (node.kind != YamlNode::Kind::kScalar) return "a string";
  const auto is_control = [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7F; };
  if (std::any_of(node.text.begin(), node.text.end(), is_control))
    return "a string without control characters";
  *value = node.text;
  return "";
}

std::string ScalarText(int64_t value) {
  return fmt::format("{}", value);
}

std::string ScalarText(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == text.npos) text += ".0";
  return text;
}

std::string ScalarText(bool value) {
  return value ? "true" : "false";
}

std::string ScalarText(const std::string& value) {
  const auto is_plain = [](char c) {
    return IsLetter(c) || IsDigit(c) || c == '_' || c == '-' || c == '.' || c == '/';
  };
  const bool word =
      value == "true" || value == "false" || value == "null" || value == "Null" || value == "NULL";
  const bool starts_plain =
      !value.empty() && (IsLetter(value[0]) || value.starts_with('/') || value.starts_with("./"));
  const bool hidden_file =
      value.size() > 1 && value[0] == '.' && IsLetter(value[1]) && value.find('/') != value.npos;
  if (!word && (starts_plain || hidden_file) && std::all_of(value.begin(), value.end(), is_plain))
    return value;
  std::string quoted = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

}  // namespace lacuna
