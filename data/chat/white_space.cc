#include "data/chat/white_space.h"

#include <unicode/utf8.h>

#include <algorithm>
#include <cstdint>

namespace lacuna {
namespace {

// str.isspace(): Unicode's White_Space and the four separators of ASCII.
bool IsSpace(UChar32 c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string_view StripTrailingSpace(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  auto end = static_cast<int32_t>(text.size());
  for (int32_t i = end; i > 0; end = i) {
    UChar32 c;
    U8_PREV(bytes, 0, i, c);
    if (!IsSpace(c)) break;
  }
  return text.substr(0, static_cast<size_t>(end));
}

}  // namespace

std::string_view StripLeadingSpace(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const auto size = static_cast<int32_t>(text.size());
  int32_t begin = 0;
  for (int32_t i = 0; i < size; begin = i) {
    UChar32 c;
    U8_NEXT(bytes, i, size, c);
    if (!IsSpace(c)) break;
  }
  return text.substr(static_cast<size_t>(begin));
}

std::string_view StripSpace(std::string_view text) {
  return StripLeadingSpace(StripTrailingSpace(text));
}

std::string_view StripLeadingLineFeeds(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of('\n'), text.size()));
}

std::string_view StripLineFeeds(std::string_view text) {
  const size_t last = text.find_last_not_of('\n');
  return last == std::string_view::npos ? std::string_view()
                                        : StripLeadingLineFeeds(text.substr(0, last + 1));
}

}  // namespace lacuna
