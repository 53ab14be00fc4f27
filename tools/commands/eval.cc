// lacuna eval: held-out loss by position, needles in haystacks, answers after chains of thought.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/io/file.h"
#include "core/status.h"
#include "recipes/evaluation/answers.h"
#include "recipes/evaluation/loss.h"
#include "recipes/evaluation/needle.h"
#include "recipes/evaluation/report.h"
#include "recipes/evaluation/status_line.h"
#include "recipes/trainer/progress.h"
#include "tools/commands/evaluation.h"

namespace lacuna::tools {
namespace {

struct LossArguments {
  RunArguments run;
  LossOptions options;
  int64_t targets_from = -1;
  std::vector<std::string> sets;  // of data.validation; none: all
};

struct NeedleArguments {
  RunArguments run;
  NeedleOptions options;
};

struct AnswersArguments {
  RunArguments run;
  AnswerOptions options;
  std::string problems, constant_from, chat;
  int64_t count = 0;
};

// Places in data.validation.
absl::StatusOr<std::vector<size_t>> ChosenSets(const LossArguments& arguments,
                                               const std::vector<ValidationConfig>& all) {
  if (all.empty())
    return ConfigError("{}: the recipe has no data.validation", arguments.run.run_dir);
  std::vector<size_t> chosen;
  for (const std::string& name : arguments.sets) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const auto& set) { return set.name == name; });
    if (found == all.end()) {
      std::string names;
      for (const auto& set : all) names += (names.empty() ? "" : ", ") + set.name;
      return ConfigError("--sets {}: not in data.validation, which has {}", name, names);
    }
    chosen.push_back(static_cast<size_t>(found - all.begin()));
  }
  for (size_t i = 0; arguments.sets.empty() && i < all.size(); ++i) chosen.push_back(i);
  return chosen;
}

absl::Status RunLoss(LossArguments& arguments) {
  LossOptions& options = arguments.options;
  if (arguments.targets_from >= 0) options.targets_from = arguments.targets_from;
  LACUNA_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadEvaluated(arguments.run));
  if (options.length == 0) options.length = loaded.recipe.train.sequence_length;
  LACUNA_RETURN_IF_ERROR(options.Validate());
  LACUNA_ASSIGN_OR_RETURN(const std::vector<size_t> sets,
                          ChosenSets(arguments, loaded.recipe.data.validation));
  std::vector<SetLoss> losses;
  for (const size_t i : sets) {
    LACUNA_ASSIGN_OR_RETURN(const auto set, OpenValidationSet(loaded, i, options.length));
    StatusLine status;
    LACUNA_ASSIGN_OR_RETURN(
        SetLoss loss, EvaluateLoss(*loaded.model.model, *set, options, [&](int64_t done) {
          status.Show(fmt::format("{}: {} samples", set->name(), FormatCount(done)));
        }));
    losses.push_back(std::move(loss));
  }
  std::fputs(LossText(losses, options).c_str(), stdout);
  return ReportEvaluation(arguments.run, "loss", loaded, LossJson(losses, options));
}

absl::Status RunNeedle(NeedleArguments& arguments) {
  const NeedleOptions& options = arguments.options;
  LACUNA_RETURN_IF_ERROR(options.Validate());
  LACUNA_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadEvaluated(arguments.run));
  if (loaded.recipe.data.validation.empty())
    return ConfigError("{}: the recipe has no data.validation to make haystacks of",
                       arguments.run.run_dir);
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, LoadTokenizer(loaded));
  LACUNA_ASSIGN_OR_RETURN(const auto set, OpenValidationSet(loaded, 0, 1));
  const bool sparse = loaded.recipe.uses_nsa();
  const auto trials =
      static_cast<int64_t>(options.lengths.size() * options.depths.size()) * options.trials;
  NeedleResult result;
  {
    StatusLine status;
    LACUNA_ASSIGN_OR_RETURN(
        result,
        EvaluateNeedle(*loaded.model.model, tokenizer, Haystack(set->corpus(), tokenizer),
                       sparse ? loaded.recipe.nsa.select_block : 0,
                       sparse ? loaded.recipe.nsa.num_selected : 0, options, [&](int64_t done) {
                         status.Show(fmt::format("{} of {} trials", done, trials));
                       }));
  }
  fmt::print("text around the needle: {}\n\n", set->name());
  std::fputs(NeedleText(result, options).c_str(), stdout);
  nlohmann::ordered_json json = NeedleJson(result, options);
  json["haystack"] = set->name();
  return ReportEvaluation(arguments.run, "needle", loaded, json);
}

absl::Status RunAnswers(AnswersArguments& arguments) {
  AnswerOptions& options = arguments.options;
  LACUNA_RETURN_IF_ERROR(options.Validate());
  LACUNA_ASSIGN_OR_RETURN(std::vector<FileProblem> problems, ReadProblems(arguments.problems));
  std::string constant_from = arguments.problems;
  auto constant = MostFrequentAnswers(problems);
  if (!arguments.constant_from.empty()) {
    constant_from = arguments.constant_from;
    LACUNA_ASSIGN_OR_RETURN(const std::vector<FileProblem> others, ReadProblems(constant_from));
    constant = MostFrequentAnswers(others);
  }
  if (arguments.count > 0 && arguments.count < static_cast<int64_t>(problems.size()))
    problems.resize(static_cast<size_t>(arguments.count));
  LACUNA_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadEvaluated(arguments.run));
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, LoadTokenizer(loaded));
  const ChatTemplateKind trained_with = loaded.recipe.data.chat_template;
  if (!arguments.chat.empty()) {
    options.chat = arguments.chat;
  } else if (trained_with != ChatTemplateKind::kNone) {
    options.chat = NameOf(trained_with);
  }
  const auto start = std::chrono::steady_clock::now();
  int64_t tokens = 0;
  std::vector<AnsweredProblem> answered;
  {
    StatusLine status;
    LACUNA_ASSIGN_OR_RETURN(
        answered, AnswerProblems(*loaded.model.model, tokenizer, problems, options,
                                 [&](int64_t done, int64_t generated) {
                                   tokens = generated;
                                   status.Show(fmt::format("{} of {} problems", FormatCount(done),
                                                           FormatCount(problems.size())));
                                 }));
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  LACUNA_ASSIGN_OR_RETURN(const std::vector<AnswerScore> scores,
                          ScoreAnswers(answered, options.limits, constant));
  fmt::print("{} tokens generated in {}, {:.0f} a second\n\n", FormatCount(tokens),
             FormatDuration(seconds), static_cast<double>(tokens) / seconds);
  std::fputs(AnswersText(scores, constant_from).c_str(), stdout);
  const std::string path = ReportPath(arguments.run.run_dir, "answers", arguments.run.output);
  nlohmann::ordered_json json = AnswersJson(scores, options, constant_from);
  json["problems"] = arguments.problems;
  LACUNA_RETURN_IF_ERROR(ReportEvaluation(arguments.run, "answers", loaded, json));
  LACUNA_RETURN_IF_ERROR(
      WriteFileDurably(LinesPath(path), AnswerLines(answered, options.limits), ExitCode::kData));
  fmt::print("every text and verdict: {}\n", LinesPath(path));
  return absl::OkStatus();
}

void AddLoss(CLI::App* eval, Runner& run) {
  auto arguments = std::make_shared<LossArguments>();
  CLI::App* command =
      AddEvaluation(eval, "loss", "Held-out loss and bits per byte, by position", &arguments->run);
  LossOptions& options = arguments->options;
  command->add_option("--length", options.length, "Tokens of a sample (default: the recipe's)")
      ->check(CLI::PositiveNumber);
  command->add_option("--samples", options.samples, "Samples of each set; 0: all")
      ->capture_default_str();
  command
      ->add_option("--sets", arguments->sets,
                   "Names in data.validation, separated by commas (default: all)")
      ->delimiter(',');
  command
      ->add_option("--targets-from", arguments->targets_from,
                   "Document by document, not packed; score only tokens with at least so many "
                   "before them in their document")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--context", options.context,
                   "Each token sees at most so many tokens before it, at least half of them; the "
                   "same tokens are scored as without --context, if --targets-from is the same "
                   "(default then: half the context)")
      ->check(CLI::PositiveNumber);
  command->footer(
      "Example: what a context of 2048 tokens is worth against one of 512, on the same tokens:\n"
      "  lacuna eval loss runs/quickstart_nsa --targets-from 512\n"
      "  lacuna eval loss runs/quickstart_nsa --targets-from 512 --context 512\n"
      "A model at twice its length, as it is and with YaRN:\n"
      "  lacuna eval loss runs/quickstart_nsa --length 4096\n"
      "  lacuna eval loss runs/quickstart_nsa --length 4096 --set model.yarn.factor=2 --set "
      "model.yarn.original_length=2048");
  command->callback([arguments, &run] { run = [arguments] { return RunLoss(*arguments); }; });
}

void AddNeedle(CLI::App* eval, Runner& run) {
  auto arguments = std::make_shared<NeedleArguments>();
  CLI::App* command = AddEvaluation(eval, "needle",
                                    "Repeat a number hidden in the first validation set's text; "
                                    "which blocks were selected for it",
                                    &arguments->run);
  NeedleOptions& options = arguments->options;
  command->add_option("--lengths", options.lengths, "Tokens of the contexts")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--depths", options.depths, "Places of the needle, in per cent of the context")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--trials", options.trials, "Of each length and depth")
      ->capture_default_str();
  command->add_option("--seed", options.seed, "Other texts, cities and numbers")
      ->capture_default_str();
  command->footer(
      "Example: lacuna eval needle runs/quickstart_nsa --lengths 1024,2048,4096 --trials 10");
  command->callback([arguments, &run] { run = [arguments] { return RunNeedle(*arguments); }; });
}

void AddAnswers(CLI::App* eval, Runner& run) {
  auto arguments = std::make_shared<AnswersArguments>();
  CLI::App* command = AddEvaluation(
      eval, "answers", "Right answers after a chain of thought, at limits of generated tokens",
      &arguments->run);
  AnswerOptions& options = arguments->options;
  command->add_option("problems", arguments->problems, "JSON lines of `lacuna synth`")->required();
  command->add_option("--limit", options.limits, "Most tokens generated; several: 256,512")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--problems", arguments->count, "Only the first so many; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--chat", arguments->chat,
                      "Chat template of the prompts (default: the run's data.chat_template; chatml "
                      "where that is none)");
  command->add_option("--temperature", options.sampling.temperature, "0: the most likely token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--top-p", options.sampling.top_p,
                   "Keep the likeliest tokens of this much probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", options.sampling.seed, "Of sampled tokens")->capture_default_str();
  command->add_option("--batch", options.batch, "Problems in work at a time")
      ->capture_default_str();
  command->add_option("--constant-from", arguments->constant_from,
                      "Problems (training ones) whose most frequent answer is the baseline "
                      "(default: PROBLEMS itself)");
  command->footer(
      "Example: lacuna eval answers runs/chains .cache/chains/heldout.jsonl --limit 256,512 "
      "--constant-from .cache/chains/train.jsonl");
  command->callback([arguments, &run] { run = [arguments] { return RunAnswers(*arguments); }; });
}

}  // namespace

void AddEvalCommand(CLI::App& app, Runner& run) {
  CLI::App* command = app.add_subcommand(
      "eval", "Evaluate a run's model: loss by position, needles, answers, selected blocks");
  command->require_subcommand(1);
  command->footer("Example: lacuna eval loss runs/quickstart_nsa --length 4096 --device cuda");
  AddLoss(command, run);
  AddNeedle(command, run);
  AddAnswers(command, run);
  AddSelection(command, run);
}

}  // namespace lacuna::tools
