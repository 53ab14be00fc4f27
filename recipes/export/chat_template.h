// The chat template of an exported model.
#pragma once

#include <optional>
#include <string>

#include "recipes/schema/recipe.h"

namespace lacuna {

// Text of chat_template.jinja; none for a model that was trained on plain text.
std::optional<std::string> ExportChatTemplate(const Recipe& recipe);

}  // namespace lacuna
