// lacuna prepare: text or conversations into token shards.
#include "data/prepare/prepare.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/status.h"
#include "tools/command.h"

namespace lacuna::tools {
namespace {

struct PrepareArguments {
  PrepareOptions options;
  std::vector<std::string> holdouts;
  std::string chat = "none", history_thinking = "drop", loss_turns = "last";
  int threads = 0;
};

// The options of conversations; `extensions`: whether the user gave them.
void SetChat(const PrepareArguments& arguments, bool extensions, PrepareOptions* options) {
  for (const auto& [name, kind] : NamesOfChatTemplates()) {
    if (name == arguments.chat) options->chat_template = kind;
  }
  if (options->chat_template == ChatTemplateKind::kNone) return;
  if (!extensions) options->extensions = {"jsonl", "ndjson"};
  if (arguments.history_thinking == "keep") options->chat.history_thinking = HistoryThinking::kKeep;
  if (arguments.loss_turns == "all") options->chat.loss_turns = LossTurns::kAll;
}

absl::Status RunPrepare(PrepareArguments& arguments) {
  for (const std::string& text : arguments.holdouts) {
    LACUNA_ASSIGN_OR_RETURN(const Holdout holdout, Holdout::Parse(text));
    arguments.options.holdouts.push_back(holdout);
  }
  if (arguments.threads > 0) SetNumThreads(arguments.threads);
  LACUNA_ASSIGN_OR_RETURN(const PrepareReport report, Prepare(arguments.options));
  std::fputs(ToString(report).c_str(), stdout);
  return absl::OkStatus();
}

void AddChatOptions(CLI::App* command, PrepareArguments* arguments) {
  std::vector<std::string> names;
  for (const auto& [name, kind] : NamesOfChatTemplates()) {
    if (kind != ChatTemplateKind::kNone) names.push_back(name);
  }
  CLI::Option* chat =
      command
          ->add_option(
              "--chat", arguments->chat,
              "The lines are conversations (messages, prompt and completion, or ShareGPT); "
              "make them documents with a loss mask by this template")
          ->check(CLI::IsMember(names));
  command
      ->add_option("--history-thinking", arguments->history_thinking,
                   "Reasoning of the turns before the last user message")
      ->check(CLI::IsMember({"drop", "keep"}))
      ->capture_default_str()
      ->needs(chat);
  command
      ->add_option("--loss-turns", arguments->loss_turns,
                   "The assistant's turns that have a loss: those after the last user message, or "
                   "all")
      ->check(CLI::IsMember({"last", "all"}))
      ->capture_default_str()
      ->needs(chat);
  command
      ->add_option("--max-tokens", arguments->options.max_tokens,
                   "Leave longer conversations out: train.sequence_length, so that none is cut")
      ->check(CLI::PositiveNumber)
      ->needs(chat);
  command->get_option("--text-key")->excludes(chat);
}

}  // namespace

void AddPrepareCommand(CLI::App& app, Runner& run) {
  auto arguments = std::make_shared<PrepareArguments>();
  PrepareOptions& options = arguments->options;
  CLI::App* command = app.add_subcommand("prepare",
                                         "Turn text or conversations into token shards: files, "
                                         "folders, JSON lines; .gz and .zst, too; Megatron .idx");
  command
      ->add_option("inputs", options.inputs,
                   "Files and folders; *.jsonl has a document a line, *.idx (with the *.bin beside "
                   "it) is Megatron's token ids, any other file is one document")
      ->required();
  command
      ->add_option("--tokenizer", options.tokenizer,
                   "tokenizer.json; of *.idx the one its ids are from")
      ->required();
  command->add_option("--output", options.output, "Folder of the shards")->required();
  CLI::Option* extensions =
      command->add_option("--extensions", options.extensions, "Of the files to take from folders")
          ->delimiter(',')
          ->capture_default_str();
  command->add_option("--name", options.name, "Shards are named <name>_00000.h5, ...")
      ->capture_default_str();
  command->add_option("--source", options.source, "Where the text is from; kept in the shards");
  command->add_option("--licence", options.licence, "Of the text; kept in the shards");
  command
      ->add_option("--holdout", arguments->holdouts,
                   "name=fraction: that share of the documents, by a hash of their text, goes to "
                   "<name>_*.h5; name=path: the files below "
                   "this path, relative to the input folder (may be repeated)")
      ->allow_extra_args(false);
  command->add_option("--shard-tokens", options.shard_tokens, "Most tokens of a shard")
      ->capture_default_str();
  command->add_option("--text-key", options.text.text_key, "Key of the text in a JSON line")
      ->capture_default_str();
  command->add_flag("--keep-crlf", options.text.keep_crlf,
                    "Leave CRLF line ends as they are (else they become LF)");
  command->add_flag("--replace-invalid-utf8", options.text.replace_invalid_utf8,
                    "Put U+FFFD for bytes that are not UTF-8 (else an error)");
  AddChatOptions(command, arguments.get());
  command->add_flag("--overwrite", options.overwrite, "Replace shards of the same names");
  command
      ->add_option("--threads", arguments->threads,
                   "Threads; the shards do not depend on it (default: all cores)")
      ->check(CLI::NonNegativeNumber);
  command->footer(
      "Example: lacuna prepare linux/ --extensions c,h,rst --tokenizer tokenizer.json --output "
      "shards --holdout validation=0.01 "
      "--holdout xfs=fs/xfs\n"
      "         lacuna prepare chats.jsonl --chat chatml --max-tokens 4096 --tokenizer "
      "tokenizer.json --output shards --holdout validation=0.02");
  command->callback([arguments, extensions, &run] {
    SetChat(*arguments, extensions->count() > 0, &arguments->options);
    run = [arguments] { return RunPrepare(*arguments); };
  });
}

}  // namespace lacuna::tools
