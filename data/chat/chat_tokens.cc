#include "data/chat/chat_tokens.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "core/status.h"
#include "data/tokenizer/utf8.h"

namespace lacuna {
namespace {

// The end or the beginning of a text in a message: one line, whole characters.
std::string Excerpt(std::string_view text, bool its_end) {
  constexpr size_t kBytes = 24;
  const auto is_inside = [](char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; };
  size_t cut = std::min(kBytes, text.size());
  if (its_end) {
    size_t begin = text.size() - cut;
    while (begin < text.size() && is_inside(text[begin])) ++begin;
    text = text.substr(begin);
  } else {
    while (cut < text.size() && is_inside(text[cut])) --cut;
    text = text.substr(0, cut);
  }
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    line += c == '\n'                     ? "\\n"
            : byte < 0x20 || byte == 0x7F ? fmt::format("\\x{:02x}", byte)
                                          : std::string(1, c);
  }
  return line;
}

// The first of `tokens` that `text` begins with; null: none. No token of a template begins another.
const std::pair<std::string, int32_t>* TokenAt(
    std::string_view text, const std::vector<std::pair<std::string, int32_t>>& tokens) {
  for (const auto& token : tokens) {
    if (text.starts_with(token.first)) return &token;
  }
  return nullptr;
}

}  // namespace

int64_t ChatTokens::num_in_loss() const {
  return std::count(in_loss.begin(), in_loss.end(), uint8_t{1});
}

// Text between two special tokens.
struct ChatTokenizer::Piece {
  struct Part {
    size_t begin;  // in text
    int32_t segment;
  };
  std::string text;
  std::vector<Part> parts;

  void Add(std::string_view more, int32_t segment) {
    if (more.empty()) return;
    parts.push_back({text.size(), segment});
    text += more;
  }
  size_t EndOf(size_t part) const {
    return part + 1 < parts.size() ? parts[part + 1].begin : text.size();
  }
};

absl::StatusOr<ChatTokenizer> ChatTokenizer::Create(const Tokenizer& tokenizer,
                                                    ChatTemplateKind kind,
                                                    const ChatOptions& options) {
  const int32_t end = tokenizer.eod_id();
  ChatTokenizer chat(tokenizer, MakeChatTemplate(kind, tokenizer.Decode({&end, 1})), options);
  std::vector<std::string> missing;
  for (const std::string& token : chat.format_.special_tokens) {
    const std::optional<int32_t> id = tokenizer.AddedTokenId(token);
    if (!id) {
      missing.push_back(token);
      continue;
    }
    chat.markup_tokens_.emplace_back(token, *id);
    if (!tokenizer.IsSpecial(*id)) chat.forgeable_.push_back(token);
  }
  if (!missing.empty()) {
    return ConfigError("chat template {}: the tokenizer has no added token{} {}", NameOf(kind),
                       missing.size() > 1 ? "s" : "", fmt::join(missing, ", "));
  }
  for (const std::string_view token : kThinkTokens) {
    if (const std::optional<int32_t> id = tokenizer.AddedTokenId(token))
      chat.markup_tokens_.emplace_back(token, *id);
  }
  LACUNA_RETURN_IF_ERROR(chat.CheckMarkupTokens());
  for (const std::string& token : chat.format_.stop_tokens)
    chat.stop_ids_.push_back(*tokenizer.AddedTokenId(token));
  if (std::find(chat.stop_ids_.begin(), chat.stop_ids_.end(), end) == chat.stop_ids_.end())
    chat.stop_ids_.push_back(end);
  return chat;
}

absl::Status ChatTokenizer::CheckMarkupTokens() const {
  const std::string before = "a ", after = " a";
  for (const auto& [token, id] : markup_tokens_) {
    std::vector<int32_t> whole, parts;
    LACUNA_RETURN_IF_ERROR(
        tokenizer_.Encode(before + token + after, &whole, SpecialTokens::kParse));
    LACUNA_RETURN_IF_ERROR(tokenizer_.Encode(before, &parts));
    parts.push_back(id);
    LACUNA_RETURN_IF_ERROR(tokenizer_.Encode(after, &parts));
    if (whole != parts) {
      return ConfigError(
          "chat template: the tokenizer's token {} takes white space beside it (lstrip, rstrip) or "
          "is not found between words, which is not supported",
          token);
    }
  }
  return absl::OkStatus();
}

absl::Status ChatTokenizer::CheckContents(const std::vector<ChatSegment>& segments,
                                          const std::string& where) const {
  for (const ChatSegment& segment : segments) {
    if (segment.is_markup) continue;
    for (const std::string& token : forgeable_) {
      if (segment.text.find(token) == std::string::npos) continue;
      return DataError(
          "{}: messages[{}]: holds {}, which the tokenizer does not mark as special, so that it "
          "would not stay text",
          where, segment.message, token);
    }
  }
  // A conversation that begins once more was rendered before.
  if (!format_.begin.empty() && segments.size() > 1 &&
      segments[1].text.starts_with(format_.begin)) {
    return DataError("{}: begins with {} twice: the template's own comes before the text's", where,
                     format_.begin);
  }
  return absl::OkStatus();
}

absl::Status ChatTokenizer::Flush(Piece* piece, const std::string& where,
                                  ChatTokens* tokens) const {
  if (piece->parts.empty()) return absl::OkStatus();
  const std::vector<ChatSegment>& segments = tokens->segments;
  const std::string_view text = piece->text;
  std::vector<int32_t> ids;
  if (const absl::Status status = tokenizer_.Encode(text, &ids); !status.ok())
    return DataError("{}: {}", where, Message(status));
  // Runs of parts that all have a loss, or none.
  size_t token = 0;
  for (size_t first = 0, last; first < piece->parts.size(); first = last) {
    const ChatSegment& segment = segments[static_cast<size_t>(piece->parts[first].segment)];
    const auto differs = [&](const Piece::Part& part) {
      return segments[static_cast<size_t>(part.segment)].in_loss != segment.in_loss;
    };
    last = static_cast<size_t>(std::find_if(piece->parts.begin() + static_cast<int64_t>(first),
                                            piece->parts.end(), differs) -
                               piece->parts.begin());
    size_t end = ids.size();
    if (last < piece->parts.size()) {
      const size_t cut = piece->parts[last].begin;
      std::vector<int32_t> before;
      LACUNA_RETURN_IF_ERROR(tokenizer_.Encode(text.substr(0, cut), &before));
      if (before.size() < token || before.size() > ids.size() ||
          !std::equal(before.begin(), before.end(), ids.begin())) {
        const int32_t message = segments[static_cast<size_t>(piece->parts[last].segment)].message;
        return DataError(
            "{}: messages[{}]: its loss {} inside a token, between \"{}\" and \"{}\"; text that "
            "begins otherwise, or another template, would help",
            where, message, segment.in_loss ? "ends" : "begins", Excerpt(text.substr(0, cut), true),
            Excerpt(text.substr(cut), false));
      }
      end = before.size();
    }
    size_t part = first, bytes = piece->parts[first].begin;
    for (; token < end; ++token) {
      while (part + 1 < last && bytes >= piece->EndOf(part)) ++part;
      tokens->in_loss.push_back(segment.in_loss);
      tokens->segment.push_back(piece->parts[part].segment);
      bytes += tokenizer_.Decode({&ids[token], 1}).size();
    }
  }
  tokens->ids.insert(tokens->ids.end(), ids.begin(), ids.end());
  tokens->text_bytes += static_cast<int64_t>(text.size());
  *piece = {};
  return absl::OkStatus();
}

absl::StatusOr<ChatTokens> ChatTokenizer::EncodeSegments(std::vector<ChatSegment> segments,
                                                         const std::string& where) const {
  LACUNA_RETURN_IF_ERROR(CheckContents(segments, where));
  ChatTokens tokens;
  tokens.segments = std::move(segments);
  Piece piece;
  for (size_t s = 0; s < tokens.segments.size(); ++s) {
    const ChatSegment& segment = tokens.segments[s];
    const auto number = static_cast<int32_t>(s);
    std::string_view text = segment.text;
    size_t at = 0;
    while (segment.is_markup && at < text.size()) {
      const auto* token = TokenAt(text.substr(at), markup_tokens_);
      if (token == nullptr) {
        ++at;
        continue;
      }
      piece.Add(text.substr(0, at), number);
      LACUNA_RETURN_IF_ERROR(Flush(&piece, where, &tokens));
      tokens.ids.push_back(token->second);
      tokens.in_loss.push_back(segment.in_loss);
      tokens.segment.push_back(number);
      text.remove_prefix(at + token->first.size());
      at = 0;
    }
    piece.Add(text, number);
  }
  LACUNA_RETURN_IF_ERROR(Flush(&piece, where, &tokens));
  return tokens;
}

absl::StatusOr<ChatTokens> ChatTokenizer::Encode(const Conversation& conversation,
                                                 const std::string& where) const {
  LACUNA_ASSIGN_OR_RETURN(ChatTokens tokens,
                          EncodeSegments(RenderChat(format_, conversation, options_), where));
  if (tokens.ids.empty() || tokens.ids.back() != tokenizer_.eod_id()) {
    tokens.ids.push_back(tokenizer_.eod_id());
    tokens.in_loss.push_back(0);
    tokens.segment.push_back(-1);
  }
  return tokens;
}

absl::StatusOr<std::vector<int32_t>> ChatTokenizer::EncodePrompt(const Conversation& conversation,
                                                                 const std::string& where) const {
  LACUNA_ASSIGN_OR_RETURN(
      ChatTokens tokens,
      EncodeSegments(RenderChat(format_, conversation, options_, /*generation_prompt=*/true),
                     where));
  return std::move(tokens.ids);
}

}  // namespace lacuna
