#include "recipes/evaluation/chat_prompt.h"

#include "core/status.h"

namespace lacuna {

absl::StatusOr<GenerationPrompt> EncodeGenerationPrompt(const Tokenizer& tokenizer,
                                                        const std::string& chat,
                                                        const std::string& question) {
  if (chat != "chatml") return ConfigError("--chat {}: unknown template, known is chatml", chat);
  const auto start = tokenizer.SpecialId("<|im_start|>"), end = tokenizer.SpecialId("<|im_end|>");
  if (!start || !end) {
    return DataError("the tokenizer has no special token {}, which the chat template chatml needs",
                     !start ? "<|im_start|>" : "<|im_end|>");
  }
  GenerationPrompt prompt{.ids = {*start}, .stop_ids = {*end, tokenizer.eod_id()}};
  LACUNA_RETURN_IF_ERROR(tokenizer.Encode("user\n" + question, &prompt.ids));
  prompt.ids.push_back(*end);
  LACUNA_RETURN_IF_ERROR(tokenizer.Encode("\n", &prompt.ids));
  prompt.ids.push_back(*start);
  LACUNA_RETURN_IF_ERROR(tokenizer.Encode("assistant\n", &prompt.ids));
  return prompt;
}

}  // namespace lacuna
