#include "data/tokenizer/added_tokens.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>

namespace lacuna {
namespace {

// Where the white space that ends at `end` begins.
size_t SkipSpaceBackward(std::string_view text, size_t end) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t result = end;
  for (int32_t i = static_cast<int32_t>(end); i > 0;) {
    UChar32 c;
    U8_PREV(bytes, 0, i, c);
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

// \w of Unicode's regular expressions (UTS 18, annex C).
bool IsWordCharacter(UChar32 c) {
  constexpr uint32_t kCategories = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_hasBinaryProperty(c, UCHAR_ALPHABETIC) || (U_GET_GC_MASK(c) & kCategories) != 0 ||
         u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL);
}

// No word character touches text[begin, end).
bool IsSingleWord(std::string_view text, size_t begin, size_t end) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  UChar32 before = ' ', after = ' ';
  int32_t at = static_cast<int32_t>(begin);
  if (begin > 0) U8_PREV(bytes, 0, at, before);
  at = static_cast<int32_t>(end);
  if (end < text.size()) U8_NEXT(bytes, at, static_cast<int32_t>(text.size()), after);
  return !IsWordCharacter(before) && !IsWordCharacter(after);
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

bool AddedTokenFinder::FindNext(std::string_view text, bool parse_special, Match* match) const {
  size_t used = match->end;
  for (size_t begin = match->search; begin < text.size(); ++begin) {
    if (!first_byte_[static_cast<uint8_t>(text[begin])]) continue;
    const AddedToken* token = nullptr;
    size_t end = begin;
    int32_t node = 0;
    for (size_t i = begin; i < text.size(); ++i) {
      const auto& next = nodes_[static_cast<size_t>(node)].next;
      const auto edge = next.find(text[i]);
      if (edge == next.end()) break;
      node = edge->second;
      if (const AddedToken* found = nodes_[static_cast<size_t>(node)].token) {
        token = found;
        end = i + 1;
      }
    }
    if (!token) continue;
    if ((token->special && !parse_special) ||
        (token->single_word && !IsSingleWord(text, begin, end))) {
      begin = end - 1;
      continue;
    }
    *match = {begin, end, token, end};
    if (token->left_strip) match->begin = std::max(used, SkipSpaceBackward(text, begin));
    if (token->right_strip) match->end = SkipSpaceForward(text, end);
    if (match->begin < match->end) return true;
    used = std::max(used, match->end);  // white space that the token before took
    begin = end - 1;
  }
  return false;
}

}  // namespace lacuna
