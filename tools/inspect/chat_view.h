// Conversations as a chat template and a tokenizer make them into training data: every token with
// its loss and what decided it.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "data/chat/chat_template.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna::tools {

// Prints `count` conversations of a JSON lines file (maybe compressed), from number `first` on
// (lines that are not empty, from 0). Errors: ParseConversation's, ChatTokenizer's, and a ConfigError
// where there are no more than `first`.
absl::Status InspectChat(const std::string& path, const Tokenizer& tokenizer, ChatTemplateKind kind,
                         const ChatOptions& options, int64_t first, int64_t count);

}  // namespace lacuna::tools
