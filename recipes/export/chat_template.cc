#include "recipes/export/chat_template.h"

namespace lacuna {

std::optional<std::string> ExportChatTemplate(const Recipe&) {
  return std::nullopt;
}

}  // namespace lacuna
