// The built-in templates' strings.
#include "core/error.h"
#include "data/chat/chat_template.h"

namespace lacuna {
namespace {

ChatTemplate Plain(std::string_view end_of_document) {
  const std::string end(end_of_document);
  ChatTemplate format;
  format.system = {"### System\n", "\n\n"};
  format.user = {"### User\n", "\n\n"};
  // A header ends with letters and one line feed: with the usual patterns of tokenizers a token ends
  // there, whatever follows.
  format.assistant = "### Assistant\n";
  format.stop = end;
  format.strip_prompts = format.strip_answers = true;
  format.special_tokens = format.stop_tokens = {end};
  return format;
}

ChatTemplate Chatml() {
  ChatTemplate format;
  format.system = {"<|im_start|>system\n", "<|im_end|>\n"};
  format.user = {"<|im_start|>user\n", "<|im_end|>\n"};
  format.assistant = "<|im_start|>assistant\n";
  format.stop = "<|im_end|>";
  format.assistant_after = "\n";
  format.special_tokens = {"<|im_start|>", "<|im_end|>"};
  format.stop_tokens = {"<|im_end|>"};
  return format;
}

ChatTemplate Llama3() {
  const auto header = [](const std::string& role) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n";
  };
  ChatTemplate format;
  format.begin = "<|begin_of_text|>";
  format.system = {header("system"), "<|eot_id|>"};
  format.user = {header("user"), "<|eot_id|>"};
  format.assistant = header("assistant");
  format.stop = "<|eot_id|>";
  format.strip_prompts = format.strip_answers = true;
  format.special_tokens = {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                           "<|eot_id|>"};
  format.stop_tokens = {"<|eot_id|>"};
  return format;
}

ChatTemplate Deepseek() {
  ChatTemplate format;
  format.begin = "<｜begin▁of▁sentence｜>";
  format.user = {"<｜User｜>", ""};
  format.assistant = "<｜Assistant｜>";
  format.stop = "<｜end▁of▁sentence｜>";
  format.special_tokens = {format.begin, format.user.before, format.assistant, format.stop};
  format.stop_tokens = {format.stop};
  return format;
}

ChatTemplate Glm() {
  ChatTemplate format;
  format.begin = "[gMASK]<sop>";
  format.system = {"<|system|>\n", ""};
  format.user = {"<|user|>\n", ""};
  format.assistant = "<|assistant|>";
  format.end = "<|endoftext|>";
  format.next_turn_stop = "<|user|>";
  format.think_before = "\n<think>";
  format.think_after = "</think>\n";
  format.no_think = "\n<think></think>\n";
  format.strip_answers = true;
  format.special_tokens = {"[gMASK]",  "<sop>",         "<|system|>",
                           "<|user|>", "<|assistant|>", "<|endoftext|>"};
  format.stop_tokens = {"<|user|>", "<|endoftext|>"};
  return format;
}

}  // namespace

ChatTemplate MakeChatTemplate(ChatTemplateKind kind, std::string_view end_of_document) {
  LACUNA_CHECK(kind != ChatTemplateKind::kNone, "no chat template is no template");
  ChatTemplate format = kind == ChatTemplateKind::kPlain      ? Plain(end_of_document)
                        : kind == ChatTemplateKind::kChatml   ? Chatml()
                        : kind == ChatTemplateKind::kLlama3   ? Llama3()
                        : kind == ChatTemplateKind::kDeepseek ? Deepseek()
                                                              : Glm();
  if (format.think_before.empty()) {
    format.think_before = "<think>\n";
    format.think_after = "\n</think>\n\n";
  }
  return format;
}

}  // namespace lacuna
