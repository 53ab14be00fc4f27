// Tokens beside the model's own, found in the text before it is split into words.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lacuna {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   // is searched in normalised text
  bool left_strip = false;   // takes the white space before it
  bool right_strip = false;  // and behind it
  bool single_word = false;  // only where no word character (\w) touches it
};

// Finds a set of strings: the leftmost match, the longest there. Immutable.
class AddedTokenFinder {
 public:
  struct Match {
    size_t begin = 0, end = 0;  // bytes, white space taken included
    const AddedToken* token = nullptr;
    size_t search = 0;  // where its string ends: there the search for the next one goes on
  };

  AddedTokenFinder() = default;
  // Texts that differ from the tokens' contents where those are normalised. `tokens` must outlive
  // the finder.
  AddedTokenFinder(const std::vector<const AddedToken*>& tokens,
                   const std::vector<std::string>& texts);

  // Whether there is anything to find; special tokens count only where they are `parsed`.
  bool IsNeeded(bool parse_special) const {
    return !nodes_.empty() && (parse_special || has_plain_);
  }
  // The token behind `*match`: from its `search` on; white space is not taken from before its `end`.
  // A special one that is not parsed, and one that had to be a single word, hides those that overlap
  // it. White space that `*match` took may be a token once more, unless that takes white space on
  // its left. All as in the `tokenizers` library.
  bool FindNext(std::string_view text, bool parse_special, Match* match) const;

 private:
  struct Node {
    std::map<char, int32_t> next;
    const AddedToken* token = nullptr;
  };
  std::vector<Node> nodes_;  // a trie; the root first
  std::array<bool, 256> first_byte_{};
  bool has_plain_ = false;
};

}  // namespace lacuna
