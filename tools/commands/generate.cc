// lacuna generate: continues text with a trained model.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/status.h"
#include "data/chat/chat_tokens.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/utf8.h"
#include "nn/generation.h"
#include "recipes/trainer/load_model.h"
#include "tools/command.h"
#include "tools/commands/device_option.h"

namespace lacuna::tools {
namespace {

struct Options {
  std::string run_dir;
  std::vector<std::string> prompts;
  int64_t step = 0;
  int threads = 0;
  DeviceChoice device = DeviceChoice::kAuto;
  bool chat = false;
  GenerationOptions generation;
};

// The prompts' tokens. With --chat each is a user's message; what ends an answer goes to *stop_ids.
absl::StatusOr<std::vector<std::vector<int32_t>>> EncodePrompts(
    const std::vector<std::string>& texts, const Tokenizer& tokenizer, ChatTemplateKind chat,
    std::vector<int32_t>* stop_ids) {
  std::vector<std::vector<int32_t>> prompts;
  if (chat != ChatTemplateKind::kNone) {
    LACUNA_ASSIGN_OR_RETURN(const ChatTokenizer chat_tokenizer,
                            ChatTokenizer::Create(tokenizer, chat, {}));
    *stop_ids = chat_tokenizer.stop_ids();
    for (const std::string& text : texts) {
      const Conversation conversation{
          .messages = {{.role = ChatRole::kUser, .content = text, .reasoning = ""}}};
      LACUNA_ASSIGN_OR_RETURN(prompts.emplace_back(),
                              chat_tokenizer.EncodePrompt(conversation, "--prompt"));
    }
    return prompts;
  }
  *stop_ids = {tokenizer.eod_id()};
  for (size_t i = 0; i < texts.size(); ++i) {
    std::vector<int32_t> ids;
    const absl::Status status = tokenizer.Encode(texts[i], &ids);
    if (!status.ok()) {
      return DataError("generate: --prompt {} of {}: {}", i + 1, texts.size(), Message(status));
    }
    // Without a prompt the text starts behind a document's end: something must stand first.
    if (ids.empty()) ids.push_back(tokenizer.eod_id());
    prompts.push_back(std::move(ids));
  }
  return prompts;
}

absl::Status CheckChat(const Options& options, const Recipe& recipe) {
  if (!options.chat) return absl::OkStatus();
  if (options.prompts.empty()) return ConfigError("--chat: needs a --prompt, the user's message");
  if (recipe.data.chat_template == ChatTemplateKind::kNone) {
    return ConfigError(
        "--chat: data.chat_template of the run {} is none: the model was not trained on "
        "conversations",
        options.run_dir);
  }
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  if (options.threads > 0) SetNumThreads(options.threads);
  LACUNA_ASSIGN_OR_RETURN(
      LoadedModel loaded,
      LoadModel(options.run_dir, options.step, {.overrides = {}, .device = options.device}));
  LACUNA_RETURN_IF_ERROR(CheckChat(options, loaded.recipe));
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, LoadTokenizer(loaded));
  const std::vector<std::string> texts =
      options.prompts.empty() ? std::vector<std::string>{""} : options.prompts;
  GenerationOptions generation = options.generation;
  const ChatTemplateKind chat =
      options.chat ? loaded.recipe.data.chat_template : ChatTemplateKind::kNone;
  LACUNA_ASSIGN_OR_RETURN(const auto prompts,
                          EncodePrompts(texts, tokenizer, chat, &generation.stop_ids));
  generation.vocabulary_limit = tokenizer.vocab_size();
  const auto generated = Generate(*loaded.model.model, prompts, generation);
  for (size_t i = 0; i < generated.size(); ++i) {
    std::vector<int32_t> ids = generated[i];
    const bool ended = !ids.empty() && std::count(generation.stop_ids.begin(),
                                                  generation.stop_ids.end(), ids.back()) > 0;
    if (ended) ids.pop_back();
    if (generated.size() > 1) fmt::print("---- {} of {}\n", i + 1, generated.size());
    // A model may sample parts of characters, and the limit may cut one.
    fmt::print("{}{}\n", options.chat ? "" : texts[i], ReplaceInvalidUtf8(tokenizer.Decode(ids)));
    std::fflush(stdout);
    fmt::print(stderr, "({} tokens, {})\n", generated[i].size(),
               !ended         ? "at the limit"
               : options.chat ? "the answer ended"
                              : "the document ended");
  }
  return absl::OkStatus();
}

}  // namespace

void AddGenerateCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<Options>();
  options->generation.sampling = {.temperature = 0.8, .top_p = 0.95, .seed = 1};
  CLI::App* generate = app.add_subcommand("generate", "Continues text with the model of a run");
  generate->add_option("run_dir", options->run_dir, "folder of the run (run.dir of its recipe)")
      ->required();
  generate->add_option("-p,--prompt", options->prompts,
                       "text to continue; several make a batch; none: a new document");
  generate->add_flag("--chat", options->chat,
                     "each prompt is a user's message, in the recipe's data.chat_template; prints "
                     "the model's answer");
  generate->add_option("-n,--max-tokens", options->generation.max_tokens, "new tokens of each")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  generate
      ->add_option("--temperature", options->generation.sampling.temperature,
                   "0: the most likely token")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  generate
      ->add_option("--top-p", options->generation.sampling.top_p,
                   "keep the likeliest tokens of this much probability")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  generate
      ->add_option("--seed", options->generation.sampling.seed,
                   "the same seed gives a prompt in the same place of the batch the same text")
      ->capture_default_str();
  generate
      ->add_option("--step", options->step,
                   "checkpoint of this step (default: the latest good one)")
      ->check(CLI::PositiveNumber);
  generate->add_option("--threads", options->threads, "CPU threads (default: all)")
      ->check(CLI::NonNegativeNumber);
  AddDeviceOption(generate, &options->device);
  generate->footer(
      "Example:\n  lacuna generate runs/quickstart_nsa --prompt 'The list type' --max-tokens 100 "
      "--temperature 0.7\n  lacuna generate runs/quickstart_nsa --device cuda");
  generate->callback([options, &run] { run = [options] { return Run(*options); }; });
}

}  // namespace lacuna::tools
