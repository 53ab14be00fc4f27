#include "data/tokenizer/added_tokens.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>

namespace lacuna {
namespace {

// Where the white space that ends at `end` begins, not before `from`.
size_t SkipSpaceBackward(std::string_view text, size_t from, size_t end) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t result = end;
  for (int32_t i = static_cast<int32_t>(end); i > static_cast<int32_t>(from);) {
    UChar32 c;
    U8_PREV(bytes, static_cast<int32_t>(from), i, c);
    if (!u_isUWhiteSpace(c)) break;
    result = static_cast<size_t>(i);
  }
  return result;
}

size_t SkipSpaceForward(std::string_view text, size_t begin) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const int32_t size = static_cast<int32_t>(text.size());
  size_t result = begin;
  for (int32_t i = static_cast<int32_t>(begin); i < size;) {
    UChar32 c;
    U8_NEXT(bytes, i, size, c);
    if (!u_isUWhiteSpace(c)) break;
    result = static_cast<size_t>(i);
  }
  return result;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(const std::vector<const AddedToken*>& tokens,
                                   const std::vector<std::string>& texts) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (nodes_.empty()) nodes_.emplace_back();
    int32_t node = 0;
    for (const char c : texts[i]) {
      const auto [edge, is_new] = nodes_[static_cast<size_t>(node)].next.try_emplace(
          c, static_cast<int32_t>(nodes_.size()));
      node = edge->second;
      if (is_new) nodes_.emplace_back();
    }
    nodes_[static_cast<size_t>(node)].token = tokens[i];
    first_byte_[static_cast<uint8_t>(texts[i][0])] = true;
    has_plain_ = has_plain_ || !tokens[i]->special;
  }
}

bool AddedTokenFinder::Find(std::string_view text, size_t from, bool parse_special,
                            Match* match) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!first_byte_[static_cast<uint8_t>(text[begin])]) continue;
    *match = {};
    int32_t node = 0;
    for (size_t i = begin; i < text.size(); ++i) {
      const auto& next = nodes_[static_cast<size_t>(node)].next;
      const auto edge = next.find(text[i]);
      if (edge == next.end()) break;
      node = edge->second;
      if (const AddedToken* token = nodes_[static_cast<size_t>(node)].token)
        *match = {begin, i + 1, token};
    }
    if (!match->token) continue;
    if (match->token->special && !parse_special) {
      begin = match->end - 1;
      continue;
    }
    if (match->token->left_strip) match->begin = SkipSpaceBackward(text, from, match->begin);
    if (match->token->right_strip) match->end = SkipSpaceForward(text, match->end);
    return true;
  }
  return false;
}

}  // namespace lacuna
