#include "tools/inspect/token_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>

#include "data/tokenizer/utf8.h"

namespace lacuna::tools {
namespace {

constexpr std::string_view kOpen = "\u27E6", kClose = "\u27E7";
// Of xterm's 256 colours: two shades for a document.
constexpr int kColours[][2] = {{38, 74}, {70, 107}, {172, 179}, {133, 176}, {66, 109}, {167, 174}};

std::string Escaped(char byte) {
  return fmt::format("\\x{:02X}", static_cast<unsigned char>(byte));
}

// `text` is UTF-8. C1 control characters (U+0080 to U+009F) act on a terminal as C0's do.
void AppendVisible(std::string_view text, bool colour, std::string* out) {
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto byte = static_cast<unsigned char>(c);
    const bool control = (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F;
    if (control) {
      *out += Escaped(c);
    } else if (byte == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0) {
      *out += Escaped(c) + Escaped(text[++i]);
    } else if (!colour && text.substr(i).starts_with(kOpen)) {
      *out += "\\u27E6";
      i += kOpen.size() - 1;
    } else if (!colour && text.substr(i).starts_with(kClose)) {
      *out += "\\u27E7";
      i += kClose.size() - 1;
    } else {
      *out += c;
    }
  }
}

std::string TextOf(std::span<const int32_t> ids, const TextStyle& style) {
  if (style.tokenizer != nullptr)
    return VisibleText(style.tokenizer->Decode({ids.data(), ids.size()}), style.colour);
  return fmt::format("{}", fmt::join(ids, " "));
}

std::string ColouredText(const DocumentTokens& document, size_t shown, const TextStyle& style) {
  const auto& shades = kColours[static_cast<size_t>(style.number) % std::size(kColours)];
  std::string text;
  for (size_t i = 0; i < shown; ++i) {
    const char* separator = style.tokenizer == nullptr && i > 0 ? " " : "";
    text += fmt::format("{}\033[{}38;5;{}m{}\033[0m", separator, document.predicted[i] ? "" : "2;",
                        shades[i % 2], TextOf({&document.ids[i], 1}, style));
  }
  return text;
}

std::string PlainText(const DocumentTokens& document, size_t shown, const TextStyle& style) {
  const std::span<const int32_t> ids(document.ids.data(), shown);
  if (document.num_masked() == 0) return TextOf(ids, style);
  std::string text;
  for (size_t begin = 0, end = 0; begin < shown; begin = end) {
    const bool predicted = document.predicted[begin];
    while (end < shown && document.predicted[end] == predicted) ++end;
    const std::string span = TextOf(ids.subspan(begin, end - begin), style);
    if (style.tokenizer == nullptr && begin > 0) text += ' ';
    text += predicted ? span : fmt::format("{}{}{}", kOpen, span, kClose);
  }
  return text;
}

}  // namespace

int64_t DocumentTokens::num_masked() const {
  if (predicted.empty()) return 0;
  return std::count(predicted.begin() + 1, predicted.end(), false);
}

std::string VisibleText(std::string_view bytes, bool colour) {
  std::string text;
  while (!bytes.empty()) {
    const int64_t invalid = FirstInvalidUtf8(bytes);
    const size_t whole = invalid < 0 ? bytes.size() : static_cast<size_t>(invalid);
    AppendVisible(bytes.substr(0, whole), colour, &text);
    if (whole < bytes.size()) text += Escaped(bytes[whole]);
    bytes.remove_prefix(std::min(bytes.size(), whole + 1));
  }
  return text;
}

std::string DocumentText(const DocumentTokens& document, int64_t most, const TextStyle& style) {
  const size_t shown = std::min(document.ids.size(), static_cast<size_t>(most));
  std::string text =
      style.colour ? ColouredText(document, shown, style) : PlainText(document, shown, style);
  text += '\n';
  if (shown < document.ids.size())
    text += fmt::format("... {} more tokens\n", document.ids.size() - shown);
  return text;
}

}  // namespace lacuna::tools
