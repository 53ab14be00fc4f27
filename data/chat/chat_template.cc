#include "data/chat/chat_template.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "data/chat/white_space.h"

namespace lacuna {
namespace {

// Appends segments, leaving empty ones out.
class Writer {
 public:
  explicit Writer(std::vector<ChatSegment>* segments) : segments_(segments) {}

  void set_message(int32_t message) { message_ = message; }
  void Markup(std::string_view text, bool in_loss) { Add(text, true, in_loss); }
  void Content(std::string_view text, bool in_loss) { Add(text, false, in_loss); }

 private:
  void Add(std::string_view text, bool is_markup, bool in_loss) {
    if (text.empty()) return;
    segments_->push_back({.text = std::string(text),
                          .is_markup = is_markup,
                          .in_loss = in_loss,
                          .message = message_});
  }

  std::vector<ChatSegment>* segments_;
  int32_t message_ = -1;
};

void WritePrompt(const ChatTemplate& format, const ChatMessage& message, bool ends_answer,
                 Writer* writer) {
  const bool user = message.role == ChatRole::kUser;
  const ChatTemplate::Turn& turn = user ? format.user : format.system;
  std::string_view before = turn.before;
  if (user && ends_answer) {
    writer->Markup(format.next_turn_stop, true);
    before.remove_prefix(format.next_turn_stop.size());
  }
  writer->Markup(before, false);
  writer->Content(format.strip_prompts ? StripSpace(message.content) : message.content, false);
  writer->Markup(turn.after, false);
}

void WriteAnswer(const ChatTemplate& format, const ChatMessage& message, bool show_reasoning,
                 bool in_loss, Writer* writer) {
  std::string_view content = message.content, reasoning = message.reasoning;
  const bool thinks = show_reasoning && !reasoning.empty();
  if (format.strip_answers) {
    content = StripSpace(content);
    reasoning = StripSpace(reasoning);
  } else if (thinks) {
    content = StripLeadingLineFeeds(content);
    reasoning = StripLineFeeds(reasoning);
  }
  writer->Markup(format.assistant, false);
  if (thinks) {
    writer->Markup(format.think_before, in_loss);
    writer->Content(reasoning, in_loss);
    writer->Markup(format.think_after, in_loss);
  } else {
    writer->Markup(format.no_think, in_loss && reasoning.empty());
  }
  writer->Content(content, in_loss);
  writer->Markup(format.stop, in_loss);
  writer->Markup(format.assistant_after, false);
}

}  // namespace

std::vector<ChatSegment> RenderChat(const ChatTemplate& format, const Conversation& conversation,
                                    const ChatOptions& options, bool generation_prompt) {
  const std::vector<ChatMessage>& messages = conversation.messages;
  std::vector<ChatSegment> segments;
  Writer writer(&segments);
  writer.Markup(format.begin, false);
  auto last_user = static_cast<int32_t>(messages.size()) - 1;
  while (last_user >= 0 && messages[static_cast<size_t>(last_user)].role != ChatRole::kUser)
    --last_user;
  bool ends_answer = false;  // the next user's turn ends an answer that has a loss
  for (size_t i = 0; i < messages.size(); ++i) {
    const bool is_last = static_cast<int32_t>(i) > last_user;
    const bool is_answer = messages[i].role == ChatRole::kAssistant;
    const bool in_loss = is_answer && (is_last || options.loss_turns == LossTurns::kAll);
    writer.set_message(static_cast<int32_t>(i));
    if (is_answer) {
      WriteAnswer(format, messages[i],
                  is_last || options.history_thinking == HistoryThinking::kKeep, in_loss, &writer);
    } else {
      WritePrompt(format, messages[i], ends_answer, &writer);
    }
    ends_answer = in_loss && !format.next_turn_stop.empty();
  }
  writer.set_message(-1);
  if (generation_prompt) {
    writer.Markup(format.assistant, false);
  } else if (!messages.empty() && messages.back().role == ChatRole::kAssistant) {
    writer.Markup(format.end, true);  // after the last user message, so it always has a loss
  }
  return segments;
}

std::string TextOf(const std::vector<ChatSegment>& segments) {
  std::string text;
  for (const ChatSegment& segment : segments) text += segment.text;
  return text;
}

const ChatTemplateNames& NamesOfChatTemplates() {
  static const ChatTemplateNames names = {
      {"none", ChatTemplateKind::kNone},         {"plain", ChatTemplateKind::kPlain},
      {"chatml", ChatTemplateKind::kChatml},     {"llama3", ChatTemplateKind::kLlama3},
      {"deepseek", ChatTemplateKind::kDeepseek}, {"glm", ChatTemplateKind::kGlm}};
  return names;
}

std::string NameOf(ChatTemplateKind kind) {
  const ChatTemplateNames& names = NamesOfChatTemplates();
  return std::find_if(names.begin(), names.end(),
                      [&](const auto& entry) { return entry.second == kind; })
      ->first;
}

std::string DescribeChat(ChatTemplateKind kind, const ChatOptions& options) {
  return fmt::format("{} history_thinking={} loss_turns={}", NameOf(kind),
                     options.history_thinking == HistoryThinking::kKeep ? "keep" : "drop",
                     options.loss_turns == LossTurns::kAll ? "all" : "last");
}

}  // namespace lacuna
