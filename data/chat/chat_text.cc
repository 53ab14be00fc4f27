#include "data/chat/chat_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/tokenizer/utf8.h"

namespace lacuna {
namespace {

std::string Visible(const std::string& bytes) {
  const bool cut = FirstInvalidUtf8(bytes) >= 0;
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    const bool c1 =
        byte == 0xC2 && i + 1 < bytes.size() && static_cast<uint8_t>(bytes[i + 1]) < 0xA0;
    if (byte == '\n') {
      text += "\\n";
    } else if (byte < 0x20 || byte == 0x7F || c1 || (cut && byte >= 0x80)) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += bytes[i];
    }
  }
  return text;
}

int64_t Columns(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

// "1 assistant"; nothing for the conversation's beginning and end.
std::string MessageText(int32_t message, const Conversation& conversation) {
  if (message < 0) return "";
  return fmt::format("{} {}", message,
                     NameOf(conversation.messages[static_cast<size_t>(message)].role));
}

}  // namespace

std::string ChatText(const ChatTokens& tokens, const Conversation& conversation,
                     const Tokenizer& tokenizer, int64_t width) {
  std::string text =
      fmt::format("{:>4} {:>6} {:<13} {:<8} {}\n", "loss", "tokens", "message", "part", "text");
  for (size_t first = 0, last; first < tokens.ids.size(); first = last) {
    for (last = first; last < tokens.ids.size() && tokens.segment[last] == tokens.segment[first] &&
                       tokens.in_loss[last] == tokens.in_loss[first];)
      ++last;
    const int32_t number = tokens.segment[first];
    const ChatSegment* segment =
        number < 0 ? nullptr : &tokens.segments[static_cast<size_t>(number)];
    std::string line = fmt::format(
        "{:>4} {:>6} {:<13} {:<8} ", tokens.in_loss[first] != 0 ? "loss" : "-", last - first,
        MessageText(segment == nullptr ? -1 : segment->message, conversation),
        segment == nullptr ? "end" : (segment->is_markup ? "markup" : "content"));
    const std::string indent(line.size(), ' ');
    for (size_t t = first; t < last; ++t) {
      const std::string token =
          (t == first ? "" : "│") + Visible(tokenizer.Decode({&tokens.ids[t], 1}));
      if (Columns(line) > static_cast<int64_t>(indent.size()) &&
          Columns(line) + Columns(token) > width) {
        text += line + "\n";
        line = indent;
      }
      line += token;
    }
    text += line + "\n";
  }
  return text;
}

}  // namespace lacuna
