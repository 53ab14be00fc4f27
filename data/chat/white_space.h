// White space at the ends of text, as Python's str.strip() sees it: chat templates are written
// against it.
#pragma once

#include <string_view>

namespace lacuna {

// Without the white space before and behind it (str.strip()); `text` must be UTF-8.
std::string_view StripSpace(std::string_view text);
// Only before it (str.lstrip()).
std::string_view StripLeadingSpace(std::string_view text);
// Without line feeds before and behind it (str.strip("\n")); only before it.
std::string_view StripLineFeeds(std::string_view text);
std::string_view StripLeadingLineFeeds(std::string_view text);

}  // namespace lacuna
