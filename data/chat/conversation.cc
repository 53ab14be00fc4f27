#include "data/chat/conversation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/status.h"
#include "data/chat/white_space.h"
#include "data/json_line.h"
#include "data/tokenizer/json_reader.h"
#include "data/tokenizer/utf8.h"

namespace lacuna {
namespace {

using nlohmann::json;

constexpr std::string_view kThinkBegin = "<think>", kThinkEnd = "</think>";
constexpr std::string_view kToolKeys[] = {"tools", "tool_calls", "functions", "function_call",
                                          "tool_call_id"};
constexpr std::string_view kToolRoles[] = {"tool", "function", "function_call", "observation",
                                           "ipython"};

// How a format writes a message.
struct Layout {
  const char* list;
  const char* role;
  const char* content;
  const char* reasoning;  // null: has none
  std::string_view roles[3];
};
constexpr Layout kMessages = {
    "messages", "role", "content", "reasoning_content", {"system", "user", "assistant"}};
constexpr Layout kShareGpt = {
    "conversations", "from", "value", nullptr, {"system", "human", "gpt"}};

bool IsNothing(const json& value) {
  return value.is_null() || value == "" || (value.is_array() && value.empty());
}

// An error where `object` asks for tools.
absl::Status RefuseTools(const JsonNode& object) {
  for (const std::string_view name : kToolKeys) {
    const JsonNode node = object.Get(std::string(name));
    if (!IsNothing(node.value())) return node.Error("tool calls are not supported");
  }
  return absl::OkStatus();
}

absl::Status CheckKeys(const JsonNode& message, const Layout& layout) {
  LACUNA_RETURN_IF_ERROR(RefuseTools(message));
  for (const auto& [key, value] : message.value().items()) {
    const bool known =
        key == layout.role || key == layout.content ||
        (layout.reasoning != nullptr && key == layout.reasoning) ||
        std::find(std::begin(kToolKeys), std::end(kToolKeys), key) != std::end(kToolKeys);
    if (known || value.is_null()) continue;
    return message.Error("has the key \"{}\", allowed are {}, {}{}{}", key, layout.role,
                         layout.content, layout.reasoning == nullptr ? "" : ", ",
                         layout.reasoning == nullptr ? "" : layout.reasoning);
  }
  return absl::OkStatus();
}

absl::StatusOr<ChatRole> ReadRole(const JsonNode& node, const Layout& layout) {
  LACUNA_ASSIGN_OR_RETURN(const std::string name, node.String());
  for (size_t role = 0; role < std::size(layout.roles); ++role) {
    if (name == layout.roles[role]) return static_cast<ChatRole>(role);
  }
  const bool tool =
      std::find(std::begin(kToolRoles), std::end(kToolRoles), name) != std::end(kToolRoles);
  return node.Error("found \"{}\", expected {}, {} or {}{}", name, layout.roles[0], layout.roles[1],
                    layout.roles[2], tool ? "; tool calls are not supported" : "");
}

absl::StatusOr<std::string> ReadContent(const JsonNode& node) {
  LACUNA_ASSIGN_OR_RETURN(std::string text, node.String());
  if (text.empty()) return node.Error("is empty");
  if (StripSpace(text).empty()) return node.Error("is white space alone");
  return text;
}

// Takes <think>...</think> out of an assistant's content. `node` is the content's.
absl::Status SplitReasoning(const JsonNode& node, ChatMessage* message) {
  const std::string_view text = StripLeadingSpace(message->content);
  const size_t end = text.find(kThinkEnd);
  if (!text.starts_with(kThinkBegin) || end == std::string_view::npos) return absl::OkStatus();
  if (!message->reasoning.empty())
    return node.Error("begins with <think>, and there is reasoning_content, too");
  std::string reasoning(text.substr(kThinkBegin.size(), end - kThinkBegin.size()));
  std::string content(StripLeadingLineFeeds(text.substr(end + kThinkEnd.size())));
  if (StripSpace(content).empty()) return node.Error("is empty behind </think>");
  if (!StripSpace(reasoning).empty()) message->reasoning = std::move(reasoning);
  message->content = std::move(content);
  return absl::OkStatus();
}

absl::StatusOr<ChatMessage> ReadMessage(const JsonNode& node, const Layout& layout) {
  if (!node.value().is_object()) return node.Wrong("an object");
  LACUNA_RETURN_IF_ERROR(CheckKeys(node, layout));
  ChatMessage message;
  LACUNA_ASSIGN_OR_RETURN(message.role, ReadRole(node.Get(layout.role), layout));
  const JsonNode content = node.Get(layout.content);
  LACUNA_ASSIGN_OR_RETURN(message.content, ReadContent(content));
  if (layout.reasoning != nullptr) {
    const JsonNode reasoning = node.Get(layout.reasoning);
    if (!reasoning.IsNull()) {
      LACUNA_ASSIGN_OR_RETURN(message.reasoning, reasoning.String());
    }
    if (StripSpace(message.reasoning).empty()) message.reasoning.clear();
    if (!message.reasoning.empty() && message.role != ChatRole::kAssistant)
      return reasoning.Error("only the assistant has reasoning");
  }
  if (message.role == ChatRole::kAssistant)
    LACUNA_RETURN_IF_ERROR(SplitReasoning(content, &message));
  return message;
}

absl::Status ReadList(const JsonNode& list, const Layout& layout, Conversation* conversation) {
  if (!list.value().is_array()) return list.Wrong("a list of messages");
  bool answered = false;
  for (size_t i = 0; i < list.value().size(); ++i) {
    LACUNA_ASSIGN_OR_RETURN(ChatMessage message, ReadMessage(list.At(i), layout));
    if (i > 0 && message.role == ChatRole::kSystem)
      return list.At(i).Error("a system message must be the first");
    answered = answered || message.role == ChatRole::kAssistant;
    conversation->messages.push_back(std::move(message));
  }
  if (!answered)
    return list.Error("holds {} messages, none of them the assistant's", list.value().size());
  return absl::OkStatus();
}

absl::Status ReadPair(const JsonNode& line, Conversation* conversation) {
  for (const auto& [key, role] :
       {std::pair{"prompt", ChatRole::kUser}, std::pair{"completion", ChatRole::kAssistant}}) {
    ChatMessage message{.role = role, .content = "", .reasoning = ""};
    LACUNA_ASSIGN_OR_RETURN(message.content, ReadContent(line.Get(key)));
    if (role == ChatRole::kAssistant)
      LACUNA_RETURN_IF_ERROR(SplitReasoning(line.Get(key), &message));
    conversation->messages.push_back(std::move(message));
  }
  return absl::OkStatus();
}

std::string KeysOf(const json& object) {
  std::string keys;
  for (const auto& [key, value] : object.items()) keys += (keys.empty() ? "" : ", ") + key;
  return keys.empty() ? "no keys at all" : "only " + keys;
}

}  // namespace

std::string_view NameOf(ChatRole role) {
  return kMessages.roles[static_cast<size_t>(role)];
}

std::string Conversation::Canonical() const {
  std::string text;
  for (const ChatMessage& message : messages) {
    text += fmt::format("{} {} {}\n", NameOf(message.role), message.reasoning.size(),
                        message.content.size());
    text.append(message.reasoning).append(message.content).append("\n");
  }
  return text;
}

absl::StatusOr<Conversation> ParseConversation(std::string_view text, const std::string& where) {
  if (const int64_t bad = FirstInvalidUtf8(text); bad >= 0) {
    return DataError("{}: byte {} (0x{:02X}) is not UTF-8", where, bad,
                     static_cast<uint8_t>(text[static_cast<size_t>(bad)]));
  }
  LACUNA_ASSIGN_OR_RETURN(const json document, ParseJsonLine(text, where));
  const JsonNode line(&document, where + ":");
  if (!document.is_object()) return line.Wrong("an object");
  LACUNA_RETURN_IF_ERROR(RefuseTools(line));
  if (const JsonNode system = line.Get("system"); !IsNothing(system.value()))
    return system.Error("is no key of a conversation: make it the first message");
  const bool messages = document.contains(kMessages.list),
             share_gpt = document.contains(kShareGpt.list), pair = document.contains("completion");
  if (messages + share_gpt + pair > 1) {
    return line.Error("holds {}{}{} and {}: expected one of them", messages ? "messages" : "",
                      messages && share_gpt && pair ? ", " : "",
                      share_gpt && (pair || !messages) ? "conversations" : "",
                      pair ? "completion" : "conversations");
  }
  Conversation conversation;
  absl::Status status;
  if (messages) {
    status = ReadList(line.Get(kMessages.list), kMessages, &conversation);
  } else if (share_gpt) {
    status = ReadList(line.Get(kShareGpt.list), kShareGpt, &conversation);
  } else if (pair) {
    status = ReadPair(line, &conversation);
  } else {
    status = line.Error("expected messages, conversations, or prompt and completion, found {}",
                        KeysOf(document));
  }
  if (!status.ok()) return status;
  return conversation;
}

}  // namespace lacuna
