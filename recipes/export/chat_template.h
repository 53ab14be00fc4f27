// The chat template of an exported model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct ExportedChat {
  std::string jinja;              // chat_template.jinja; earlier turns' reasoning is dropped
  std::vector<int32_t> stop_ids;  // any of them ends an answer
};

// Of the recipe's data.chat_template; none for a model that was trained on plain text. A ConfigError
// where the tokenizer lacks the template's tokens.
absl::StatusOr<std::optional<ExportedChat>> ExportChatTemplate(const Recipe& recipe,
                                                               const Tokenizer& tokenizer);

}  // namespace lacuna
