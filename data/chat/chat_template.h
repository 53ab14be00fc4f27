// How a conversation becomes the text that a model reads: the built-in chat templates.
//
// A template's own text is markup, what the messages say is content. Only markup holds special
// tokens; a special token's string inside content stays text.
//
//   plain     ### User\n...\n\n### Assistant\n...<end of document>      needs no chat tokens
//   chatml    <|im_start|>user\n...<|im_end|>\n                         as Qwen3
//   llama3    <|begin_of_text|>, then
//             <|start_header_id|>user<|end_header_id|>\n\n...<|eot_id|> as Llama-3-Instruct
//   deepseek  <｜begin▁of▁sentence｜>, the system message, then
//             <｜User｜>...<｜Assistant｜>...<｜end▁of▁sentence｜>       as DeepSeek-V3
//   glm       [gMASK]<sop>, then <|user|>\n...<|assistant|>\n...        as GLM-4.5: an answer ends
//             where <|user|> begins the next turn, the last one with <|endoftext|>
//
// Reasoning stands before the content: <think>\n...\n</think>\n\n, of glm \n<think>...</think>\n. An
// answer without reasoning has no such tags, but for glm's \n<think></think>\n.
//
// White space, as the originals have it: plain and llama3 strip every content; glm strips the
// assistant's; chatml and deepseek leave contents as they are, but strip line feeds from reasoning
// and from the start of a content that reasoning stands before.
//
// What has a loss: all that a model must write itself after the generation prompt: reasoning with
// its tags, the content and the token that ends the turn. The header of a turn has none, neither
// have the empty tags that glm puts in place of reasoning that was dropped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/chat/conversation.h"

namespace lacuna {

enum class ChatTemplateKind : uint8_t { kNone, kPlain, kChatml, kLlama3, kDeepseek, kGlm };
// Reasoning of the assistant's turns before the last user message.
enum class HistoryThinking : uint8_t { kDrop, kKeep };
// Which of the assistant's turns have a loss: those after the last user message, or all.
enum class LossTurns : uint8_t { kLast, kAll };

// Names as they are written in recipes and on the command line.
using ChatTemplateNames = std::vector<std::pair<std::string, ChatTemplateKind>>;
const ChatTemplateNames& NamesOfChatTemplates();
std::string NameOf(ChatTemplateKind kind);

struct ChatOptions {
  HistoryThinking history_thinking = HistoryThinking::kDrop;
  LossTurns loss_turns = LossTurns::kLast;
};

// "chatml history_thinking=drop loss_turns=last": what a shard says of its conversations.
std::string DescribeChat(ChatTemplateKind kind, const ChatOptions& options);

// The strings that a template is made of.
struct ChatTemplate {
  struct Turn {
    std::string before, after;  // of the content
  };
  std::string begin;  // of the conversation
  Turn system, user;
  std::string assistant;        // before the answer: also the generation prompt
  std::string stop;             // ends an answer; empty where the next turn's header does
  std::string assistant_after;  // behind stop
  std::string end;              // behind the last answer
  std::string next_turn_stop;   // what the user's turn begins with, where that ends the answer
  std::string think_before, think_after;  // of reasoning
  std::string no_think;                   // where there is none
  bool strip_prompts = false;             // of the system and the user
  bool strip_answers = false;             // and their reasoning

  std::vector<std::string> special_tokens;  // that a tokenizer must have
  std::vector<std::string> stop_tokens;     // any of them ends an answer
};

// `end_of_document` ends plain's answers; the other templates have tokens of their own. kNone is
// misuse.
ChatTemplate MakeChatTemplate(ChatTemplateKind kind,
                              std::string_view end_of_document = "<|endoftext|>");

// Tokens that reasoning stands between, where a tokenizer has them; else they are plain text.
inline constexpr std::string_view kThinkTokens[] = {"<think>", "</think>"};

struct ChatSegment {
  std::string text;  // never empty
  bool is_markup = false;
  bool in_loss = false;
  int32_t message = -1;  // that it belongs to; -1: the conversation's beginning or end

  bool operator==(const ChatSegment&) const = default;
};

// The conversation in order. With `generation_prompt` it ends with the assistant's header, as a
// model is asked for an answer.
std::vector<ChatSegment> RenderChat(const ChatTemplate& format, const Conversation& conversation,
                                    const ChatOptions& options, bool generation_prompt = false);
// All segments' text.
std::string TextOf(const std::vector<ChatSegment>& segments);

// The same template in Jinja, as chat_template.jinja holds it: with the variables that the
// transformers library gives (messages, add_generation_prompt, raise_exception) it renders what
// RenderChat does, for all that ParseConversation accepts; the rest, and tools, it refuses.
std::string ChatTemplateJinja(const ChatTemplate& format, HistoryThinking history_thinking);

}  // namespace lacuna
