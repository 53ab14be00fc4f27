// One line of chat data as a conversation.
//
// Three formats, told by their keys:
//   {"messages": [{"role": "system|user|assistant", "content": "...", "reasoning_content": "..."}]}
//   {"prompt": "...", "completion": "..."}
//   {"conversations": [{"from": "system|human|gpt", "value": "..."}]}
// reasoning_content is optional and the assistant's only. Other keys beside the format's own (an id,
// a source) are passed over; in a message every key counts, so there others are refused unless they
// are null.
//
// An assistant's content that begins with <think>...</think> (white space before it aside) is taken
// apart: what stands between the tags is the reasoning, what follows, without its first line feeds,
// the content.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lacuna {

enum class ChatRole : uint8_t { kSystem, kUser, kAssistant };

// "system", "user", "assistant".
std::string_view NameOf(ChatRole role);

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::string content;    // UTF-8, never white space alone
  std::string reasoning;  // of the assistant; empty: none

  bool operator==(const ChatMessage&) const = default;
};

// At least one message is the assistant's; a system message is the first.
struct Conversation {
  std::vector<ChatMessage> messages;

  // The same text for equal messages, another one for any others.
  std::string Canonical() const;
};

// `where` ("a.jsonl:12") stands for the line in messages. Refused with a DataError that names the
// key: text that is not UTF-8 or no JSON object, none or several of the formats, a key of another
// type than it should have, a role or a message's key that is not listed above, tool calls, content
// that is empty or white space alone, a conversation without an assistant turn or with a system
// message that is not the first.
absl::StatusOr<Conversation> ParseConversation(std::string_view json, const std::string& where);

}  // namespace lacuna
