#include "recipes/schema/yaml_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace lacuna {
namespace {

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

bool IsConflictMarker(std::string_view line) {
  return StartsWith(line, "<<<<<<< ") || StartsWith(line, ">>>>>>> ") ||
         StartsWith(line, "||||||| ") || line == "=======";
}

// Column (from 0) of a comment's '#', or the line's length.
size_t CommentStart(std::string_view line) {
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) return i;
  }
  return line.size();
}

// The parser keeps a token for each of these until a collection closes: a bound on them bounds its
// time and memory.
constexpr int64_t kMaxIndicators = 50000;

int64_t CountIndicators(std::string_view line) {
  const std::string_view content = line.substr(0, CommentStart(line));
  constexpr std::string_view kIndicators = "[]{},:?-&*!";
  return std::count_if(content.begin(), content.end(),
                       [&](char c) { return kIndicators.find(c) != kIndicators.npos; });
}

struct Complaint {
  size_t column;  // from 0
  std::string message;
};

std::optional<Complaint> CheckBytes(std::string_view line) {
  for (size_t i = 0; i < line.size();) {
    const auto byte = static_cast<uint8_t>(line[i]);
    if (byte == 0) return Complaint{i, "a NUL byte; a recipe is UTF-8 text"};
    if ((byte < 0x20 && byte != '\t') || byte == 0x7F)
      return Complaint{i, fmt::format("control character 0x{:02X} is not allowed", byte)};
    const size_t length = Utf8SequenceLength(line.substr(i));
    if (length == 0) return Complaint{i, fmt::format("byte 0x{:02X} is not UTF-8", byte)};
    i += length;
  }
  return std::nullopt;
}

std::optional<Complaint> CheckLine(std::string_view line, bool content_seen) {
  if (auto complaint = CheckBytes(line)) return complaint;
  if (IsConflictMarker(line)) return Complaint{0, "unresolved git merge conflict"};
  const size_t tab = line.find('\t');
  if (tab < CommentStart(line)) return Complaint{tab, "a tab; indent and separate with spaces"};
  if (!content_seen && StartsWith(line, "%"))
    return Complaint{0, "YAML directives are not allowed"};
  return std::nullopt;
}

}  // namespace

size_t Utf8SequenceLength(std::string_view text) {
  const auto at = [&](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  const uint8_t first = at(0);
  if (text.empty()) return 0;
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (first == 0xE0 && at(1) < 0xA0) || (first == 0xF0 && at(1) < 0x90);
  const bool surrogate = first == 0xED && at(1) > 0x9F;
  const bool beyond_unicode = first == 0xF4 && at(1) > 0x8F;
  return overlong || surrogate || beyond_unicode ? 0 : length;
}

std::optional<std::string> FindForbiddenText(std::string_view text, const std::string& name) {
  bool content_seen = false;
  int64_t indicators = 0;
  size_t number = 1;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (const auto complaint = CheckLine(line, content_seen)) {
      return fmt::format("{}:{}:{}: {}", name, number, complaint->column + 1, complaint->message);
    }
    indicators += CountIndicators(line);
    if (indicators > kMaxIndicators)
      return fmt::format("{}:{}: more than {} brackets, commas and colons", name, number,
                         kMaxIndicators);
    const size_t first = line.find_first_not_of(' ');
    content_seen = content_seen || (first != line.npos && line[first] != '#');
    begin = end + 1;
  }
  return std::nullopt;
}

bool IsOneLineScalar(std::string_view source, std::string_view value, bool plain) {
  if (plain) return StartsWith(source, value);
  const char quote = source.empty() ? '\0' : source[0];
  if (quote != '"' && quote != '\'') return false;
  for (size_t i = 1; i < source.size() && source[i] != '\n'; ++i) {
    if (quote == '"' && source[i] == '\\') {
      ++i;
      if (i < source.size() && source[i] == '\n') return false;
    } else if (source[i] == quote) {
      if (quote == '"' || i + 1 >= source.size() || source[i + 1] != quote) return true;
      ++i;  // '' inside single quotes is one quote
    }
  }
  return false;
}

}  // namespace lacuna
