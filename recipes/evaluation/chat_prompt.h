// A question as the prompt of a chat model, up to where the assistant begins to speak.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna {

struct GenerationPrompt {
  std::vector<int32_t> ids;
  std::vector<int32_t> stop_ids;  // any of them ends the assistant's turn
};

// `chat` is the name of a template (data/chat/chat_template.h), the question a user's message. A
// special token's string inside the question is text. A ConfigError for an unknown template, or where
// the tokenizer lacks special tokens of it.
absl::StatusOr<GenerationPrompt> EncodeGenerationPrompt(const Tokenizer& tokenizer,
                                                        const std::string& chat,
                                                        const std::string& question);

}  // namespace lacuna
