// A tokenized conversation for people: every token, whether it has a loss, and what decided that.
#pragma once

#include <cstdint>
#include <string>

#include "data/chat/chat_tokens.h"
#include "data/tokenizer/tokenizer.h"

namespace lacuna {

// A line for each run of tokens that one segment decided:
//
//   loss tokens message      part     text
//      -      3 1 assistant  markup   <|im_start|>│assistant│\n
//   loss      2 1 assistant  content  Good│ morning
//
// A bar (U+2502) stands between tokens. Line feeds are written \n, other control characters and
// bytes that are no whole character \xHH. Lines of more than `width` columns go on below.
std::string ChatText(const ChatTokens& tokens, const Conversation& conversation,
                     const Tokenizer& tokenizer, int64_t width = 100);

}  // namespace lacuna
